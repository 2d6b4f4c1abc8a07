package shoreguard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "example.com/shoreguard/client/shoreguardv1"
)

const (
	prodURL  = "http://127.0.0.1:9"
	otherURL = "http://127.0.0.1:7"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// withFolder makes the empty folder of a user who has the context `prod`.
func withFolder(t *testing.T, endpoint string) store {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("SHOREGUARD_ENDPOINT", "")
	t.Setenv("SHOREGUARD_KEY", "")
	user, _ := userFiles()
	if err := os.Mkdir(filepath.Dir(user.lock), 0o700); err != nil {
		t.Fatal(err)
	}
	s := store{user, "prod", endpoint}
	putContext(t, s)
	return s
}

func putContext(t *testing.T, s store) {
	t.Helper()
	write(t, s.contexts, "current = \"prod\"\n[contexts.prod]\nendpoint = "+quote(s.endpoint)+"\n")
}

// putSession stores a session whose token has expired.
func putSession(t *testing.T, s store, token string, hasEndpoint bool) {
	t.Helper()
	lines := s.lines(renewed(token, -time.Hour))
	if !hasEndpoint {
		// The second line is the endpoint.
		lines = append(lines[:1:1], lines[2:]...)
	}
	write(t, s.credentials, strings.Join(lines, "\n")+"\n")
}

// expire lets the stored session token expire. The rest of the file is as a program has written it.
func expire(t *testing.T, s store) {
	t.Helper()
	before := text(t, s.credentials)
	after := regexp.MustCompile(`(?m)^expire_time = .*$`).ReplaceAllString(before, "expire_time = 2020-01-01T00:00:00Z")
	if after == before {
		t.Fatal("no session is stored")
	}
	write(t, s.credentials, after)
}

func current(t *testing.T, s store) credential {
	t.Helper()
	document, err := readDocument(s.credentials, othersCanRead)
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.read(document)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func renewed(token string, lasts time.Duration) *pb.RefreshSessionResponse {
	return &pb.RefreshSessionResponse{
		SessionToken: token,
		ExpireTime:   timestamppb.New(time.Now().Add(lasts)),
		RefreshToken: "r-" + token,
	}
}

// due makes a session that is refreshed before the next call. used gets each refresh token that is used.
func due(stored *store, used chan string, next string) *session {
	s := newSession(credential{"old", "r-old", time.Now()}, stored)
	s.exchange = func(_ context.Context, token string) (*pb.RefreshSessionResponse, error) {
		used <- token
		return renewed(next, 15*time.Minute), nil
	}
	return s
}

func TestASessionIsRefreshedAMinuteBeforeItsTokenExpires(t *testing.T) {
	ctx, used := limited(t), make(chan string, 1)
	s := due(nil, used, "new")
	s.current.expires = time.Now().Add(early + 30*time.Second)
	if token, err := s.token(ctx); token != "old" || err != nil || len(used) != 0 {
		t.Fatal(token, err, len(used))
	}
	s.current.expires = time.Now().Add(early - 10*time.Second)
	for at := 0; at < 2; at++ {
		if token, err := s.token(ctx); token != "new" || err != nil {
			t.Fatal(token, err)
		}
	}
	if len(used) != 1 || <-used != "r-old" {
		t.Fatal("the refresh token was not used once")
	}
}

func TestManyProgramsRefreshAStoredSessionOnce(t *testing.T) {
	const programs = 20
	stored, ctx := withFolder(t, prodURL), limited(t)
	putSession(t, stored, "old", true)
	used, tokens := make(chan string, programs), make(chan string, programs)
	for at := 0; at < programs; at++ {
		// Each has a lock of its own, as a program has: only the file keeps them apart.
		of := stored
		s := due(&of, used, "new")
		atOnce := s.exchange
		s.exchange = func(ctx context.Context, token string) (*pb.RefreshSessionResponse, error) {
			// Without the lock, others would refresh in this time.
			time.Sleep(200 * time.Millisecond)
			return atOnce(ctx, token)
		}
		go func() {
			token, err := s.token(ctx)
			if err != nil {
				token = err.Error()
			}
			tokens <- token
		}()
	}
	for at := 0; at < programs; at++ {
		if token := <-tokens; token != "new" {
			t.Fatal(token)
		}
	}
	if len(used) != 1 || <-used != "r-old" {
		t.Fatal("the refresh token was not used once")
	}
	info, err := os.Stat(stored.credentials)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	if found := current(t, stored); found.token != "new" || found.refresh != "r-new" || !found.isFresh() {
		t.Fatal(found)
	}
	if !strings.Contains(text(t, stored.credentials), "endpoint = "+quote(prodURL)) {
		t.Fatal("a credential is stored with its endpoint")
	}
	left, err := os.ReadDir(filepath.Dir(stored.lock))
	if err != nil || len(left) != 3 {
		t.Fatal("temporary files are removed:", left, err)
	}
}

func TestASessionOfAnotherServerIsNotUsed(t *testing.T) {
	for _, hasEndpoint := range []bool{true, false} {
		t.Run(fmt.Sprint("endpoint is stored: ", hasEndpoint), func(t *testing.T) {
			stored, ctx, used := withFolder(t, prodURL), limited(t), make(chan string, 2)
			putSession(t, stored, "old", hasEndpoint)
			c, err := New(Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s := c.session.Load()
			s.exchange = func(_ context.Context, token string) (*pb.RefreshSessionResponse, error) {
				used <- token
				return renewed("old-2", -time.Hour), nil
			}
			if token, err := s.token(ctx); token != "old-2" || err != nil || <-used != "r-old" {
				t.Fatal(token, err)
			}
			if found := current(t, stored); found.refresh != "r-old-2" {
				t.Fatal(found)
			}
			// The name of the context is given to another server while this program runs.
			other := store{stored.files, "prod", otherURL}
			putContext(t, other)
			putSession(t, other, "new", hasEndpoint)
			if _, err := s.token(ctx); !errors.Is(err, ErrUnauthenticated) || !strings.Contains(err.Error(), "has ended") {
				t.Fatal(err)
			}
			if found := current(t, other); len(used) != 0 || found.refresh != "r-new" {
				t.Fatal(found)
			}
			// It is not used from the start either if it was stored for another server.
			putContext(t, stored)
			target, err := findTarget(Options{})
			if err != nil || (target.session == nil) != hasEndpoint {
				t.Fatal(target, err)
			}
		})
	}
}

func TestARefusedRefreshSaysHowToLogIn(t *testing.T) {
	stored, ctx := withFolder(t, prodURL), limited(t)
	putSession(t, stored, "old", true)
	before := text(t, stored.credentials)
	s := due(&stored, make(chan string, 1), "new")
	var refused error
	s.exchange = func(context.Context, string) (*pb.RefreshSessionResponse, error) { return nil, refused }
	const hint = "UNAUTHENTICATED: the session of context `prod` has ended: log in with `shoreguard login`"
	for _, one := range []struct {
		refused error
		seen    string
	}{
		{&Error{Code: codes.Unauthenticated, Message: "it was used", Reason: "CREDENTIAL_INVALID", RequestID: "0190"},
			hint + " [CREDENTIAL_INVALID] (request 0190)"},
		{&Error{Code: codes.Unavailable, Message: "it restarts"}, "UNAVAILABLE: it restarts"},
	} {
		refused = one.refused
		if _, err := s.token(ctx); err == nil || err.Error() != one.seen {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(stored.lock))
	if err != nil || len(left) != 3 || text(t, stored.credentials) != before {
		t.Fatal("the files are as before:", left, err)
	}
	write(t, stored.credentials, "")
	if _, err := s.token(ctx); err == nil || err.Error() != hint {
		t.Fatal("the user has logged out:", err)
	}
	write(t, stored.credentials, "[contexts.prod]\nkey = \"sg_new\"\n")
	if token, err := s.token(ctx); token != "sg_new" || err != nil {
		t.Fatal("the user has logged in with a key:", token, err)
	}
}

func TestACallerThatGivesUpDoesNotEndTheRefresh(t *testing.T) {
	stored, ctx, used := withFolder(t, prodURL), limited(t), make(chan string, 2)
	putSession(t, stored, "old", true)
	release, err := stored.acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := due(&stored, used, "new")
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.token(short); !errors.Is(err, ErrDeadlineExceeded) || len(used) != 0 {
		t.Fatal(err)
	}
	release()
	if token, err := s.token(ctx); token != "new" || err != nil || len(used) != 1 {
		t.Fatal(token, err)
	}
	// A client that is closed does not wait for another program.
	putSession(t, stored, "old", true)
	if release, err = stored.acquire(ctx); err != nil {
		t.Fatal(err)
	}
	defer release()
	s = due(&stored, used, "newer")
	canceled, cancelNow := context.WithCancel(ctx)
	cancelNow()
	if _, err := s.token(canceled); !errors.Is(err, ErrCancelled) {
		t.Fatal(err)
	}
	s.close()
	if _, err := s.token(ctx); !errors.Is(err, ErrCancelled) || len(used) != 1 {
		t.Fatal(err)
	}
}

func TestTheRestOfTheFileIsKept(t *testing.T) {
	stored, ctx := withFolder(t, prodURL), limited(t)
	const (
		start = "# by hand\n[contexts.ci]\nkey = \"sg_ci\" # for builds\n\n"
		end   = "\n\n[contexts.other]\nsession_token = \"x\"\nexpire_time = 2020-01-01T00:00:00.000Z\n"
		prod  = "[ \"contexts\" . 'prod' ]\nsession_token = 'old'\nexpire_time = 2020-01-01 12:15:00+01:00 # past\n" +
			"refresh_token = \"r-old\""
	)
	write(t, stored.credentials, start+prod+end)
	if found := current(t, stored); !found.expires.Equal(time.Date(2020, 1, 1, 11, 15, 0, 0, time.UTC)) {
		t.Fatal(found.expires)
	}
	if token, err := due(&stored, make(chan string, 1), "n\"\\\x7few").token(ctx); token != "n\"\\\x7few" || err != nil {
		t.Fatal(token, err)
	}
	after := text(t, stored.credentials)
	if !strings.HasPrefix(after, start+"[contexts.\"prod\"]\nendpoint = ") || !strings.HasSuffix(after, end) {
		t.Fatal(after)
	}
	if !strings.Contains(after, `session_token = "n\"\\\u007few"`+"\n\n[contexts.other]") {
		t.Fatal(after)
	}
	for _, wrong := range []struct{ text, why string }{
		{"session_token = \"a\"", "expire_time` must be a time with a time zone"},
		{"session_token = \"a\"\nexpire_time = 2020-01-01T00:00:00", "expire_time` must be a time with a time zone"},
		{"session_token = \"a secret\"\nexpire_time = 2020-01-01T00:00:00Z", "`contexts.prod` has spaces"},
	} {
		write(t, stored.credentials, "[contexts.prod]\n"+wrong.text+"\n")
		_, err := New(Options{})
		if err == nil || !strings.Contains(err.Error(), wrong.why) || strings.Contains(err.Error(), "secret") {
			t.Fatal(wrong.why, err)
		}
	}
}

// whoami runs the command line as this user.
func whoami() string {
	command := exec.Command(os.Getenv("SHOREGUARD_BIN"), "whoami", "-o", "name")
	command.Env = []string{"XDG_CONFIG_HOME=" + os.Getenv("XDG_CONFIG_HOME")}
	out, err := command.CombinedOutput()
	if err != nil {
		return fmt.Sprint(err, ": ", string(out))
	}
	return strings.TrimSpace(string(out))
}

// identity makes a call as a new program of this user.
func identity(ctx context.Context) string {
	c, err := New(Options{})
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	me, err := c.Auth.GetCurrentIdentity(ctx, &pb.GetCurrentIdentityRequest{})
	if err != nil {
		return err.Error()
	}
	return me.Actor
}

func TestASessionIsSharedWithTheCommandLine(t *testing.T) {
	const (
		email, password = "kim@example.com", "a long and unusual password 7"
		programs        = 20
	)
	s, ctx := newServer(t), limited(t)
	admin := s.client(t, s.key)
	invited, err := admin.Users.InviteUser(ctx, &pb.InviteUserRequest{Email: email, Role: pb.Role_ROLE_VIEWER})
	if err != nil {
		t.Fatal(err)
	}
	accept := &pb.AcceptInviteRequest{InviteToken: invited.InviteToken, Password: password}
	if _, err := admin.Auth.AcceptInvite(ctx, accept); err != nil {
		t.Fatal(err)
	}
	login, err := admin.Auth.Login(ctx, &pb.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	stored := withFolder(t, "http://"+s.address)
	first := &pb.RefreshSessionResponse{SessionToken: login.SessionToken, RefreshToken: login.RefreshToken}
	write(t, stored.credentials, strings.Join(stored.lines(first), "\n")+"\n")
	seen := make(chan string, programs)
	for at := 0; at < programs; at++ {
		if at%2 == 0 {
			go func() { seen <- whoami() }()
		} else {
			go func() { seen <- identity(ctx) }()
		}
	}
	for at := 0; at < programs; at++ {
		if who := <-seen; who != email {
			t.Fatal(who)
		}
	}
	refreshes := func() int {
		request := &pb.ListAuditEntriesRequest{Action: "session.refresh"}
		entries, err := List[*pb.AuditEntry](ctx, admin.Audit.ListAuditEntries, request).All()
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	count := refreshes()
	for count == 0 {
		// The entry is stored shortly after the answer.
		count = refreshes()
	}
	if count != 1 {
		t.Fatal("refreshes:", count)
	}
	// Each reads what the other has stored. The session continues: no refresh token was used twice.
	for at := 0; at < 2; at++ {
		expire(t, stored)
		if who := identity(ctx); who != email {
			t.Fatal(who)
		}
		expire(t, stored)
		if who := whoami(); who != email {
			t.Fatal(who)
		}
	}
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Auth.Logout(ctx, &pb.LogoutRequest{}); err != nil {
		t.Fatal(err)
	}
	expire(t, stored)
	ended, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ended.Close()
	_, err = ended.Auth.GetCurrentIdentity(ctx, &pb.GetCurrentIdentityRequest{})
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrUnauthenticated) || !e.Has(pb.ErrorReason_ERROR_REASON_CREDENTIAL_INVALID) {
		t.Fatal(err)
	}
	if !strings.Contains(err.Error(), "has ended: log in with `shoreguard login`") {
		t.Fatal(err)
	}
	// A session that has ended does not make a public method fail.
	if _, err := ended.Auth.GetServerInfo(ctx, &pb.GetServerInfoRequest{}); err != nil {
		t.Fatal(err)
	}

	c, err = New(Options{Endpoint: "http://" + s.address, NoCredential: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Login(ctx, email, password)
	if err != nil {
		t.Fatal(err)
	}
	memory := c.session.Load()
	memory.current.expires = time.Now()
	if me, err := c.Auth.GetCurrentIdentity(ctx, &pb.GetCurrentIdentityRequest{}); err != nil || me.Actor != email {
		t.Fatal(me, err)
	}
	if memory.current.refresh == answer.RefreshToken || !memory.current.isFresh() {
		t.Fatal("the session was not refreshed")
	}
}

func TestAPasswordIsNotSentWithoutTLS(t *testing.T) {
	for endpoint, expected := range map[string]bool{
		"http://shoreguard.example.com": true, "https://shoreguard.example.com": false, "http://127.0.0.1:1": false,
	} {
		if _, isPlain, err := checkEndpoint(endpoint, false); err != nil || isPlain != expected {
			t.Fatal(endpoint, isPlain, err)
		}
	}
	if _, err := (&Client{isPlain: true}).Login(limited(t), "kim@example.com", "a password"); !errors.Is(err, ErrInvalidArgument) {
		t.Fatal(err)
	}
}
