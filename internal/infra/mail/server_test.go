package mail

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/fusionspim/steward/internal/base/sensitive"
)

// server is a mail server in this process that behaves as a test wants.
type server struct {
	settings Settings // to reach it
	ended    chan struct{}

	mu       sync.Mutex
	got      []received
	dialled  int
	rcpt     func(c *smtp.Conn, to string) error
	data     func(c *smtp.Conn, content io.Reader) error
	from     func(c *smtp.Conn) error
	password string
	signedIn int
	utf8     int // MAIL commands that asked for SMTPUTF8
}

type received struct {
	from, to string
	content  []byte
}

type serving struct {
	encryption Encryption
	password   string
	noUTF8     bool
}

func serve(t testing.TB, how serving) *server {
	t.Helper()
	s := &server{password: how.password, ended: make(chan struct{}, 1000)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s.mu.Lock()
		s.dialled++
		s.mu.Unlock()
		return &conversation{server: s, conn: c}, nil
	}))
	backend.Domain = "mx.test"
	backend.EnableSMTPUTF8 = !how.noUTF8
	backend.ErrorLog = log.New(io.Discard, "", 0)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s.settings = Settings{
		Host: "127.0.0.1", Encryption: how.encryption, From: "Steward <no-reply@steward.example>", CommandTimeout: time.Minute,
	}
	if s.settings.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	if how.password != "" {
		s.settings.User, s.settings.Password = "relay", sensitive.New(how.password)
		backend.AllowInsecureAuth = how.encryption == EncryptionNone
	}
	if how.encryption != EncryptionNone {
		config, authorities := certified(t)
		s.settings.RootCAs = authorities
		if how.encryption == EncryptionImplicit {
			listener = tls.NewListener(listener, config)
		} else {
			backend.TLSConfig = config
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = backend.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = backend.Close()
		_ = listener.Close() // which the server does not know if it has not come to serving yet
		<-done
	})
	return s
}

// certified makes an authority for the test and a certificate of it for 127.0.0.1.
func certified(t testing.TB) (*tls.Config, *x509.CertPool) {
	t.Helper()
	make := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate, key
	}
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	authority, authorityKey := make(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, key := make(&x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, authority, authorityKey)
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}}, pool
}

func (s *server) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.got...)
}

func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialled
}

// conversation is one connection at the server's side.
type conversation struct {
	server *server
	conn   *smtp.Conn
	now    received
}

func (c *conversation) Reset() { c.now = received{} }

func (c *conversation) Logout() error {
	c.server.ended <- struct{}{}
	return nil
}

func (c *conversation) Mail(from string, options *smtp.MailOptions) error {
	if c.server.password != "" && c.server.signedIn == 0 {
		return smtp.ErrAuthRequired
	}
	c.now.from = from
	c.server.mu.Lock()
	do := c.server.from
	if options.UTF8 {
		c.server.utf8++
	}
	c.server.mu.Unlock()
	if do != nil {
		return do(c.conn)
	}
	return nil
}

func (c *conversation) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.now.to = to
	c.server.mu.Lock()
	do := c.server.rcpt
	c.server.mu.Unlock()
	if do != nil {
		return do(c.conn, to)
	}
	return nil
}

func (c *conversation) Data(content io.Reader) error {
	c.server.mu.Lock()
	do := c.server.data
	c.server.mu.Unlock()
	if do != nil {
		return do(c.conn, content)
	}
	all, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	c.now.content = all
	c.server.mu.Lock()
	c.server.got = append(c.server.got, c.now)
	c.server.mu.Unlock()
	return nil
}

func (c *conversation) AuthMechanisms() []string {
	if c.server.password == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (c *conversation) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "relay" || password != c.server.password {
			return smtp.ErrAuthFailed
		}
		c.server.mu.Lock()
		c.server.signedIn++
		c.server.mu.Unlock()
		return nil
	}), nil
}
