{{- define "dragoman.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "dragoman.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "dragoman.labels" -}}
{{ include "dragoman.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "dragoman.image" -}}
{{- $version := printf "%s-%s" .Chart.AppVersion .Values.image.variant -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default $version }}
{{- end }}

{{/* The server's settings: what the user gives, and what follows from the rest of the values. */}}
{{- define "dragoman.settings" -}}
{{- $derived := dict "host" "0.0.0.0" "port" 50051 "metrics_port" 9464 "health_port" 50052 -}}
{{- if not .Values.models.embedded }}{{ $_ := set $derived "model_repository" "/models" }}{{ end }}
{{- if .Values.tls.secret }}
{{- $_ := set $derived "tls_certificate" "/etc/dragoman/tls/tls.crt" }}
{{- $_ := set $derived "tls_key" "/etc/dragoman/tls/tls.key" }}
{{- if .Values.tls.clientAuthority }}{{ $_ := set $derived "tls_client_authority" "/etc/dragoman/tls/ca.crt" }}{{ end }}
{{- end }}
{{- if .Values.clients.secret }}{{ $_ := set $derived "clients" "/etc/dragoman/clients/clients.yaml" }}{{ end }}
{{- mergeOverwrite (deepCopy .Values.settings) $derived | toYaml }}
{{- end }}
