module github.com/fusionspim/steward/pkg/webhooksig

go 1.22
