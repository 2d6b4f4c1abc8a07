// The path is a placeholder: there is no public repository yet. README.md says how to use the module until then.
module example.com/shoreguard/client

go 1.19

require (
	google.golang.org/grpc v1.80.0
	google.golang.org/protobuf v1.36.11
)
