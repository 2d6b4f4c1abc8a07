package shoreguard

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "example.com/shoreguard/client/shoreguardv1"
)

const contextsFile = `current = "prod" # the default
[contexts.prod]
endpoint = "https://shoreguard.example.com"
gateway = 'prod-eu'
["contexts"."my dev"]
"endpoint" = "http://127.0.0.1:1"
`

func withContexts(t *testing.T) string {
	home := t.TempDir()
	folder := filepath.Join(home, "shoreguard")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("SHOREGUARD_ENDPOINT", "")
	t.Setenv("SHOREGUARD_KEY", "")
	for name, text := range map[string]string{
		"contexts.toml":    contextsFile,
		"credentials.toml": "[contexts.\"prod\"]\nkey = \"sg_prod\"\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func found(t *testing.T, options Options) (endpoint, key, gateway string) {
	t.Helper()
	target, err := findTarget(options)
	if err != nil {
		t.Fatal(err)
	}
	key, _ = target.token(context.Background())
	return target.url.String(), key, target.gateway
}

func TestArgumentsPrecedeEnvironmentAndContext(t *testing.T) {
	folder := withContexts(t)
	if e, k, g := found(t, Options{}); e != "https://shoreguard.example.com" || k != "sg_prod" || g != "prod-eu" {
		t.Fatal(e, k, g)
	}
	if _, k, _ := found(t, Options{NoCredential: true}); k != "" {
		t.Fatal(k)
	}
	if e, k, _ := found(t, Options{Endpoint: "https://other.example.com"}); e != "https://other.example.com" || k != "" {
		t.Fatal("the credential of a context is sent to its endpoint only:", e, k)
	}
	if _, k, g := found(t, Options{Endpoint: "https://shoreguard.example.com/"}); k != "sg_prod" || g != "prod-eu" {
		t.Fatal("an endpoint that is given can be that of the current context:", k, g)
	}
	t.Setenv("SHOREGUARD_ENDPOINT", "https://shoreguard.example.com")
	if _, k, _ := found(t, Options{}); k != "sg_prod" {
		t.Fatal(k)
	}
	t.Setenv("SHOREGUARD_ENDPOINT", "")
	if e, k, _ := found(t, Options{Context: "my dev"}); e != "http://127.0.0.1:1" || k != "" {
		t.Fatal(e, k)
	}
	credentials := filepath.Join(folder, "credentials.toml")
	for _, given := range []struct{ endpoint, key string }{
		{"https://shoreguard.example.com", "sg_prod"},
		{"https://old.example.com", ""},
	} {
		text := "[contexts.prod]\nkey = \"sg_prod\"\nendpoint = \"" + given.endpoint + "\"\n"
		os.WriteFile(credentials, []byte(text), 0o600)
		if _, k, _ := found(t, Options{}); k != given.key {
			t.Fatal("a credential is sent to the endpoint that it was stored for only:", given.endpoint, k)
		}
	}
	t.Setenv("SHOREGUARD_KEY", "sg_environment")
	t.Setenv("SHOREGUARD_ENDPOINT", "http://127.0.0.1:2")
	if e, k, _ := found(t, Options{}); e != "http://127.0.0.1:2" || k != "sg_environment" {
		t.Fatal(e, k)
	}
	if _, k, _ := found(t, Options{Key: "sg_given"}); k != "sg_given" {
		t.Fatal(k)
	}
	os.Remove(filepath.Join(folder, "contexts.toml"))
	t.Setenv("SHOREGUARD_ENDPOINT", "")
	if e, _, _ := found(t, Options{}); e != DefaultEndpoint {
		t.Fatal(e)
	}
}

func TestWhatCannotBeUsedIsRefused(t *testing.T) {
	folder := withContexts(t)
	for _, refused := range []struct {
		options Options
		why     string
	}{
		{Options{Endpoint: "http://example.com", Key: "sg_a"}, "endpoint: a credential is sent over https"},
		{Options{Endpoint: "ftp://example.com"}, "endpoint: ftp://"},
		{Options{Endpoint: "https://a:b@example.com"}, "endpoint: only scheme"},
		{Options{Endpoint: "https://"}, "endpoint: it is not a URL"},
		{Options{Endpoint: "https://a.example.com", Key: "a b"}, "key: it contains spaces"},
		{Options{Endpoint: "http://127.0.0.1:1", CA: []byte("x")}, "ca: it needs an endpoint with https"},
		{Options{Endpoint: "https://a.example.com", CA: []byte("x")}, "ca: it has no certificate"},
		{Options{Context: "nope"}, "context: `nope` does not exist"},
	} {
		_, err := New(refused.options)
		if !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), refused.why) {
			t.Fatal(refused.why, err)
		}
	}
	credentials := filepath.Join(folder, "credentials.toml")
	os.Chmod(credentials, 0o644)
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "other users can read it") {
		t.Fatal(err)
	}
	os.Chmod(credentials, 0o600)
	contexts := filepath.Join(folder, "contexts.toml")
	for _, mode := range []os.FileMode{0o620, 0o602} {
		os.Chmod(contexts, mode)
		if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "other users can write it") {
			t.Fatal(mode, err)
		}
	}
	os.Chmod(contexts, 0o644)
	os.WriteFile(credentials, []byte("a = secret text\n"), 0o600)
	_, err := New(Options{})
	if err == nil || !strings.Contains(err.Error(), "line 1 is not understood") || strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
}

func TestTheOwnerOfAFileIsFound(t *testing.T) {
	info, err := os.Stat(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if owner, ok := ownerOf(info); !ok || owner != os.Geteuid() {
		t.Fatal(owner, ok)
	}
}

func TestASecretIsNotSentWithoutTLS(t *testing.T) {
	withContexts(t)
	c, err := New(Options{Endpoint: "http://shoreguard.invalid", NoCredential: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := limited(t)
	_, login := c.Auth.Login(ctx, &pb.LoginRequest{Email: "ana@example.com", Password: "secret"})
	_, accept := c.Auth.AcceptInvite(ctx, &pb.AcceptInviteRequest{InviteToken: "secret", Password: "secret"})
	_, refresh := c.Auth.RefreshSession(ctx, &pb.RefreshSessionRequest{RefreshToken: "secret"})
	for _, err := range []error{login, accept, refresh} {
		if !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), "sent over https:// only") {
			t.Fatal(err)
		}
	}
}
