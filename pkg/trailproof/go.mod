module github.com/fusionspim/steward/pkg/trailproof

go 1.22

require (
	github.com/google/uuid v1.6.0
	github.com/transparency-dev/merkle v0.0.2
)
