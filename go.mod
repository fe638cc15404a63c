module github.com/fusionspim/steward

go 1.26.8

require (
	filippo.io/age v1.3.2 // encrypts backups and bundles; the reference implementation, streaming
	github.com/alecthomas/kong v1.17.0 // commands: one struct gives flags, variables, help and checks
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0 // browser test: no Node and no driver program
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6
	github.com/emersion/go-smtp v0.25.1 // SMTP client, and the server of dev and tests
	github.com/fusionspim/steward/pkg/client v0.0.0
	github.com/fusionspim/steward/pkg/trailproof v0.0.0
	github.com/fusionspim/steward/pkg/webhooksig v0.0.0
	github.com/getkin/kin-openapi v0.153.0 // judges requests; reads the 3.1 contract as 3.0.3, 40 times faster than its 3.1 mode
	github.com/go-json-experiment/json v1.27.2 // the tokens of strict JSON; encoding/json/jsontext from Go 1.27 on
	github.com/golang-jwt/jwt/v5 v5.3.1 // access tokens, behind strict checks of our own
	github.com/google/uuid v1.6.0 // UUIDv7
	github.com/jackc/pgx/v5 v5.12.0 // the PostgreSQL driver, shared by everything
	github.com/johannesboyne/gofakes3 v1.2.0 // tests only: an S3 server in process
	github.com/labstack/echo/v4 v4.16.0 // HTTP routing; inside httpapi alone, so that Echo 5 is a day of work
	github.com/lmittmann/tint v1.2.1 // a readable log for dev
	github.com/mattn/go-isatty v0.0.24 // whether dev logs to a terminal
	github.com/minio/minio-go/v7 v7.4.1 // S3, with If-None-Match at completion by its core calls
	github.com/nbutton23/zxcvbn-go v0.0.0-20210217022336-fa2cb2858354 // password strength
	github.com/oapi-codegen/nullable v1.1.0
	github.com/oapi-codegen/runtime v1.8.0
	github.com/pquerna/otp v1.5.0 // one-time codes (RFC 6238)
	github.com/pressly/goose/v3 v3.29.0 // migrations in plain SQL, with a lock
	github.com/prometheus/client_golang v1.25.0 // metrics, the standard of the field
	github.com/riverqueue/river v0.51.1 // jobs in the same database and transaction as what enqueues them
	github.com/riverqueue/river/riverdriver/riverdatabasesql v0.51.1
	github.com/riverqueue/river/rivertype v0.51.1
	github.com/standard-webhooks/standard-webhooks/libraries v0.0.1 // tests only: an independent verifier
	github.com/transparency-dev/merkle v0.0.2 // the RFC 6962 tree, by the authors of transparency logs
	github.com/wneessen/go-mail v0.8.1 // composes mails; well kept and small
	go.uber.org/goleak v1.3.0
	go.yaml.in/yaml/v3 v3.0.5
	golang.org/x/crypto v0.58.0 // Argon2id
	golang.org/x/mod v0.42.0 // signed notes of checkpoints
	golang.org/x/net v0.62.0 // domain names
	golang.org/x/sys v0.49.0 // O_TMPFILE and linkat, which the standard library lacks
	golang.org/x/text v0.43.0 // Unicode normalisation
	gorm.io/driver/postgres v1.6.3
	gorm.io/gorm v1.31.2 // connections and arguments only; no hooks, no PrepareStmt (pgx caches statements)
	pgregory.net/rapid v1.3.0 // property tests that shrink
)

require (
	filippo.io/hpke v0.4.0 // indirect
	github.com/BurntSushi/toml v1.6.0 // indirect
	github.com/apapsch/go-jsonmerge/v2 v2.0.0 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/boombuler/barcode v1.0.1-0.20190219062509-6c824513bacc // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/dprotaso/go-yit v0.0.0-20220510233725-9ba8df137936 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/go-openapi/jsonpointer v0.23.1 // indirect
	github.com/go-openapi/swag/jsonname v0.26.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/jinzhu/inflection v1.0.0 // indirect
	github.com/jinzhu/now v1.1.5 // indirect
	github.com/klauspost/compress v1.20.1 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/klauspost/crc32 v1.3.0 // indirect
	github.com/labstack/gommon v0.5.0 // indirect
	github.com/lib/pq v1.12.3 // indirect
	github.com/mattn/go-colorable v0.1.15 // indirect
	github.com/mfridman/interpolate v0.0.2 // indirect
	github.com/minio/crc64nvme v1.1.1 // indirect
	github.com/minio/md5-simd v1.1.2 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/oapi-codegen/oapi-codegen/v2 v2.8.2 // indirect
	github.com/philhofer/fwd v1.2.0 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/riverqueue/river/riverdriver v0.51.1 // indirect
	github.com/riverqueue/river/riverdriver/riverpgxv5 v0.51.1 // indirect
	github.com/riverqueue/river/rivershared v0.51.1 // indirect
	github.com/rs/xid v1.6.0 // indirect
	github.com/ryszard/goskiplist v0.0.0-20150312221310-2dfbae5fcf46 // indirect
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // indirect
	github.com/sethvargo/go-retry v0.5.0 // indirect
	github.com/speakeasy-api/jsonpath v0.6.3 // indirect
	github.com/speakeasy-api/openapi v1.24.0 // indirect
	github.com/tidwall/gjson v1.20.0 // indirect
	github.com/tidwall/match v1.2.0 // indirect
	github.com/tidwall/pretty v1.2.1 // indirect
	github.com/tidwall/sjson v1.2.5 // indirect
	github.com/tinylib/msgp v1.6.4 // indirect
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	github.com/valyala/fasttemplate v1.2.2 // indirect
	github.com/vmware-labs/yaml-jsonpath v0.3.2 // indirect
	github.com/zeebo/xxh3 v1.1.0 // indirect
	go.shabbyrobe.org/gocovmerge v0.0.0-20230507111327-fa4f82cfbf4d // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.yaml.in/yaml/v4 v4.0.0 // indirect
	golang.org/x/exp/typeparams v0.0.0-20260811152304-ee035b5b010f // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
	gopkg.in/ini.v1 v1.67.3 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
	honnef.co/go/tools v0.8.2 // indirect
)

tool (
	github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen
	honnef.co/go/tools/cmd/staticcheck
)

// The public modules are built from this tree.
replace (
	github.com/fusionspim/steward/pkg/client => ./pkg/client
	github.com/fusionspim/steward/pkg/trailproof => ./pkg/trailproof
	github.com/fusionspim/steward/pkg/webhooksig => ./pkg/webhooksig
)
