"""The border: protobuf and gRPC on one side, the domain on the other."""
