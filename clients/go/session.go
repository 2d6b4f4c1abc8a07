package shoreguard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	pb "example.com/shoreguard/client/shoreguardv1"
)

const (
	// early is how long before it expires a session token is replaced.
	early = time.Minute
	// refreshTimeout is how long the answer to a refresh may take.
	refreshTimeout = 30 * time.Second
)

// credential is an API key, or the tokens of a session.
type credential struct {
	// token is sent with calls; empty for none.
	token string
	// refresh replaces both tokens, once. It is empty if the token is not refreshed.
	refresh string
	// expires is when the token of a session expires.
	expires time.Time
}

// isFresh reports whether the token need not be replaced before the next call.
func (c credential) isFresh() bool { return c.refresh == "" || time.Until(c.expires) > early }

// session is the session of a user. Its token is replaced a minute before it expires.
//
// A refresh token is valid once: using it again ends the session. So it is used under the lock of the files, by one
// program of many, and its successor is stored before the lock is released. A caller that gives up does not cancel the
// refresh, which would lose the successor.
type session struct {
	// store is where the session is stored; nil if only this program has it.
	store *store
	// exchange returns the successor of a refresh token.
	exchange func(ctx context.Context, token string) (*pb.RefreshSessionResponse, error)
	// open ends when the client is closed: then no refresh begins.
	open context.Context
	end  context.CancelFunc

	mutex   sync.Mutex
	current credential
	// running is the refresh that all callers wait for; nil if the token is fresh.
	running *refresh
	// used is the stored refresh token, if it was used and its successor could not be stored. Only a refresh uses it.
	used string
}

// refresh is a refresh of a session.
type refresh struct {
	done  chan struct{}
	token string
	err   error
}

// newSession makes a session. The caller sets exchange before the first call.
func newSession(current credential, stored *store) *session {
	s := &session{store: stored, current: current}
	s.open, s.end = context.WithCancel(context.Background())
	return s
}

// token returns the session token, after a refresh if it is due.
func (s *session) token(ctx context.Context) (string, error) {
	s.mutex.Lock()
	if s.current.isFresh() {
		defer s.mutex.Unlock()
		return s.current.token, nil
	}
	running := s.running
	if running == nil {
		running = &refresh{done: make(chan struct{})}
		s.running = running
		go s.run(running, s.current)
	}
	s.mutex.Unlock()
	select {
	case <-running.done:
		return running.token, running.err
	case <-ctx.Done():
		e := &Error{Code: codes.Canceled, Message: "the session was not refreshed before the call was canceled"}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			e = &Error{Code: codes.DeadlineExceeded, Message: "the session was not refreshed in time"}
		}
		return "", e
	}
}

// run refreshes the session.
func (s *session) run(r *refresh, due credential) {
	var next credential
	if s.store == nil {
		next, r.err = s.renew(due)
	} else {
		next, r.err = s.renewStored(due)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	// A successor that could not be stored is used as well, since its predecessor is no longer valid.
	if next.token != "" {
		s.current = next
	}
	r.token = next.token
	s.running = nil
	close(r.done)
}

// renewStored returns what another program has stored in the meantime, or refreshes the session and stores its
// successor.
func (s *session) renewStored(due credential) (credential, error) {
	release, err := s.store.acquire(s.open)
	if err != nil {
		return credential{}, err
	}
	defer release()
	credentials, err := readDocument(s.store.credentials, othersCanRead)
	if err != nil {
		return credential{}, err
	}
	stored, err := s.store.read(credentials)
	if err != nil {
		return credential{}, err
	}
	if stored.token == "" {
		return credential{}, s.ended(&Error{Code: codes.Unauthenticated})
	}
	before := stored.refresh
	if s.used != "" && before == s.used {
		stored = due
	}
	if stored.isFresh() {
		return stored, nil
	}
	// Before the refresh token is used, since its successor must be stored.
	file, err := replace(s.store.credentials)
	if err != nil {
		return credential{}, err
	}
	defer file.discard()
	next, answer, err := s.use(stored)
	if err != nil {
		return credential{}, err
	}
	s.used = before
	if err := file.commit(credentials.with(pathOf(s.store.name), s.store.lines(answer))); err != nil {
		return next, err
	}
	s.used = ""
	return next, nil
}

// renew refreshes a session that only this program has.
func (s *session) renew(due credential) (credential, error) {
	if s.open.Err() != nil {
		return credential{}, errClosed
	}
	next, _, err := s.use(due)
	return next, err
}

// use exchanges a refresh token. The end of the client and of calls does not cancel it.
func (s *session) use(due credential) (credential, *pb.RefreshSessionResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
	defer cancel()
	answer, err := s.exchange(ctx, due.refresh)
	if err != nil {
		e := translate(err)
		if e.Code == codes.Unauthenticated {
			e = s.ended(e)
		}
		return credential{}, nil, e
	}
	next := credential{token: answer.SessionToken, refresh: answer.RefreshToken, expires: answer.ExpireTime.AsTime()}
	return next, answer, nil
}

// ended says what to do about a session that has ended. cause has what the server has answered.
func (s *session) ended(cause *Error) *Error {
	e := *cause
	e.status = nil
	e.Message = "the session has ended: log in again"
	if s.store != nil {
		e.Message = fmt.Sprintf("the session of context `%s` has ended: log in with `shoreguard login`", s.store.name)
	}
	return &e
}

// close waits until a refresh token that was sent has its successor. No refresh begins afterward.
func (s *session) close() {
	s.end()
	s.mutex.Lock()
	running := s.running
	s.mutex.Unlock()
	if running != nil {
		<-running.done
	}
}

// lines returns the table of the context in credentials.toml.
func (s store) lines(answer *pb.RefreshSessionResponse) []string {
	lines := []string{
		"[contexts." + quote(s.name) + "]",
		"endpoint = " + quote(s.endpoint),
		"expire_time = " + answer.ExpireTime.AsTime().Format(time.RFC3339),
	}
	if answer.RefreshExpireTime != nil {
		lines = append(lines, "refresh_expire_time = "+answer.RefreshExpireTime.AsTime().Format(time.RFC3339))
	}
	return append(lines, "refresh_token = "+quote(answer.RefreshToken), "session_token = "+quote(answer.SessionToken))
}
