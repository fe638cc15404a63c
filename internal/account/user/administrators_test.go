package user

import (
	"testing"

	"github.com/fusionspim/steward/internal/infra/mailjob"
)

func TestNoAdministratorIsNotifiedWithoutMail(t *testing.T) {
	t.Parallel()
	if err := NotifyAdministratorsTx(nil, mailjob.Mailing{}, nil, nil); err != nil {
		t.Error(err)
	}
}
