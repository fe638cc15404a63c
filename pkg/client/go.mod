module github.com/fusionspim/steward/pkg/client

go 1.23

require (
	github.com/google/uuid v1.6.0
	github.com/oapi-codegen/nullable v1.1.0
)
