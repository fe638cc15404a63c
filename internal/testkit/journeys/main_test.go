package journeys

import (
	"testing"

	"github.com/fusionspim/steward/internal/testkit/apptest"
)

func TestMain(m *testing.M) { apptest.Main(m) }
