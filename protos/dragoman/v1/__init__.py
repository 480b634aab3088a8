"""Version 1 of the API; `make proto` writes everything in this folder but the proto."""
