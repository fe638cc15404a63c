package webhooksig_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/pkg/webhooksig"
)

var now = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

const id, body = "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071", `{"type":"user.created"}`

func signed(secrets ...webhooksig.Secret) http.Header {
	header := make(http.Header)
	webhooksig.Sign(secrets, header, webhooksig.Message{ID: id, SignedAt: now}, []byte(body))
	return header
}

func TestVerify(t *testing.T) {
	t.Parallel()
	first, second, stranger := webhooksig.NewSecret(), webhooksig.NewSecret(), webhooksig.NewSecret()
	with := func(name string, values ...string) http.Header {
		header := signed(first, second)
		header[name] = values
		return header
	}
	signature := signed(first).Get(webhooksig.HeaderSignature)
	for name, test := range map[string]struct {
		secrets []webhooksig.Secret
		header  http.Header
		body    string
		at      time.Duration
		want    error
	}{
		"the first secret":           {[]webhooksig.Secret{first}, signed(first, second), body, 0, nil},
		"the second secret":          {[]webhooksig.Secret{second}, signed(first, second), body, 0, nil},
		"one of ours":                {[]webhooksig.Secret{stranger, second}, signed(second), body, 0, nil},
		"at the edge":                {[]webhooksig.Secret{first}, signed(first), body, 5 * time.Minute, nil},
		"at the other edge":          {[]webhooksig.Secret{first}, signed(first), body, -5 * time.Minute, nil},
		"a scheme to come":           {[]webhooksig.Secret{first}, with("Webhook-Signature", "v2,xyz v1a,AAAA "+signature), body, 0, nil},
		"too old":                    {[]webhooksig.Secret{first}, signed(first), body, 5*time.Minute + time.Second, webhooksig.ErrTooOld},
		"too new":                    {[]webhooksig.Secret{first}, signed(first), body, -5*time.Minute - time.Second, webhooksig.ErrTooNew},
		"a stranger":                 {[]webhooksig.Secret{stranger}, signed(first, second), body, 0, webhooksig.ErrSignature},
		"another body":               {[]webhooksig.Secret{first}, signed(first), body + " ", 0, webhooksig.ErrSignature},
		"no body":                    {[]webhooksig.Secret{first}, signed(first), "", 0, webhooksig.ErrSignature},
		"another id":                 {[]webhooksig.Secret{first}, with("Webhook-Id", "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072"), body, 0, webhooksig.ErrSignature},
		"another time":               {[]webhooksig.Secret{first}, with("Webhook-Timestamp", strconv.FormatInt(now.Unix()+1, 10)), body, 0, webhooksig.ErrSignature},
		"a cut signature":            {[]webhooksig.Secret{first}, with("Webhook-Signature", signature[:20]), body, 0, webhooksig.ErrSignature},
		"an empty signature":         {[]webhooksig.Secret{first}, with("Webhook-Signature", "v1,"), body, 0, webhooksig.ErrSignature},
		"only another scheme":        {[]webhooksig.Secret{first}, with("Webhook-Signature", "v1a,"+signature[3:]), body, 0, webhooksig.ErrSignature},
		"too many signatures":        {[]webhooksig.Secret{first}, with("Webhook-Signature", strings.Repeat("v1,AAAA ", 17)+signature), body, 0, webhooksig.ErrHeaders},
		"no id":                      {[]webhooksig.Secret{first}, with("Webhook-Id"), body, 0, webhooksig.ErrHeaders},
		"two ids":                    {[]webhooksig.Secret{first}, with("Webhook-Id", id, id), body, 0, webhooksig.ErrHeaders},
		"an id with a dot":           {[]webhooksig.Secret{first}, with("Webhook-Id", id+".1"), body, 0, webhooksig.ErrHeaders},
		"no time":                    {[]webhooksig.Secret{first}, with("Webhook-Timestamp"), body, 0, webhooksig.ErrHeaders},
		"a time that is no number":   {[]webhooksig.Secret{first}, with("Webhook-Timestamp", "yesterday"), body, 0, webhooksig.ErrHeaders},
		"a time in another spelling": {[]webhooksig.Secret{first}, with("Webhook-Timestamp", "+"+strconv.FormatInt(now.Unix(), 10)), body, 0, webhooksig.ErrHeaders},
		"an endless time":            {[]webhooksig.Secret{first}, with("Webhook-Timestamp", "99999999999999999999"), body, 0, webhooksig.ErrHeaders},
		"the last time of all":       {[]webhooksig.Secret{first}, with("Webhook-Timestamp", "9223372036854775807"), body, 0, webhooksig.ErrHeaders},
		"a time before all":          {[]webhooksig.Secret{first}, with("Webhook-Timestamp", "-5"), body, 0, webhooksig.ErrHeaders},
		"no signature":               {[]webhooksig.Secret{first}, with("Webhook-Signature"), body, 0, webhooksig.ErrHeaders},
		"no secrets":                 {nil, signed(first), body, 0, webhooksig.ErrSecret},
		"the zero secret":            {[]webhooksig.Secret{{}}, signed(webhooksig.Secret{}), body, 0, webhooksig.ErrSecret},
	} {
		message, err := webhooksig.Verify(
			test.secrets,
			test.header,
			[]byte(test.body),
			now.Add(test.at),
			webhooksig.DefaultTolerance,
		)
		if !errors.Is(err, test.want) || err == nil && (message.ID != id || !message.SignedAt.Equal(now)) {
			t.Errorf("%s: %+v, %v, want %v", name, message, err, test.want)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	made := webhooksig.NewSecret()
	if same, err := webhooksig.SecretFromBytes(made.Bytes()); err != nil || same.Reveal() != made.Reveal() {
		t.Errorf("a secret of its bytes is another one: %v", err)
	}
	if _, err := webhooksig.SecretFromBytes(make([]byte, 23)); !errors.Is(err, webhooksig.ErrSecret) {
		t.Errorf("23 bytes were accepted: %v", err)
	}
	again, err := webhooksig.ParseSecret(made.Reveal())
	if err != nil || again.Reveal() != made.Reveal() || len(made.Bytes()) != 32 {
		t.Errorf("a secret is not what it was: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, made); text != "***" {
			t.Errorf("%s prints %s", verb, text)
		}
	}
	for _, wrong := range []string{
		"", "whsec_", made.Reveal()[6:], made.Reveal() + "!", made.Reveal()[:20] + "\n" + made.Reveal()[20:], "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)),
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)), "WHSEC_" + made.Reveal()[6:],
	} {
		if _, err := webhooksig.ParseSecrets(made.Reveal(), wrong); !errors.Is(err, webhooksig.ErrSecret) {
			t.Errorf("%q was taken: %v", wrong, err)
		}
	}
}

// FuzzVerify: no headers but those that were signed for the body are taken.
func FuzzVerify(f *testing.F) {
	secret, err := webhooksig.SecretFromBytes([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		f.Fatal(err)
	}
	good := signed(secret)
	signature := good.Get(webhooksig.HeaderSignature)
	f.Add(id, good.Get(webhooksig.HeaderTimestamp), signature, []byte(body))
	f.Add(id, "+1772366400", signature, []byte(body))
	f.Add(id+".1772366400", good.Get(webhooksig.HeaderTimestamp), "v1, v1,AAAA v2,x", []byte(""))
	f.Add("", "9223372036854775807", "v1,"+strings.Repeat("A", 43)+"=", []byte("{}"))
	f.Fuzz(func(t *testing.T, messageID, seconds, signatures string, content []byte) {
		header := http.Header{
			webhooksig.HeaderID: {
				messageID,
			},
			webhooksig.HeaderTimestamp: {seconds},
			webhooksig.HeaderSignature: {signatures},
		}
		message, err := webhooksig.Verify(
			[]webhooksig.Secret{secret},
			header,
			content,
			now,
			webhooksig.DefaultTolerance,
		)
		if err != nil {
			return
		}
		if message.ID != messageID || strconv.FormatInt(message.SignedAt.Unix(), 10) != seconds {
			t.Errorf("the headers %q, %q are read as %+v", messageID, seconds, message)
		}
		again := make(http.Header)
		webhooksig.Sign([]webhooksig.Secret{secret}, again, message, content)
		if !strings.Contains(signatures, strings.TrimRight(again.Get(webhooksig.HeaderSignature), "=")[:40]) {
			t.Errorf("%q is taken for a signature of %q at %s", signatures, content, seconds)
		}
	})
}

func FuzzParseSecret(f *testing.F) {
	f.Add(webhooksig.NewSecret().Reveal())
	f.Add("whsec_")
	f.Add("whsec_AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		secret, err := webhooksig.ParseSecret(text)
		if err != nil {
			if !errors.Is(err, webhooksig.ErrSecret) {
				t.Errorf("%q is refused by %v", text, err)
			}
			return
		}
		if again, err := webhooksig.ParseSecret(
			secret.Reveal(),
		); err != nil ||
			string(again.Bytes()) != string(secret.Bytes()) {
			t.Errorf("%q is another secret when it is written and read again: %v", text, err)
		}
	})
}
