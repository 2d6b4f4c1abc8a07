// Package shoreguard is a client of Shoreguard, the control plane for fleets of OpenShell gateways.
//
// The services are those of the package shoreguardv1; this one adds what every client needs: where the server is, the
// credential, repeats, pages, operations, watches that resume, and errors with reasons.
package shoreguard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	pb "example.com/shoreguard/client/shoreguardv1"
)

const (
	// DefaultEndpoint is used if neither an option nor SHOREGUARD_ENDPOINT nor a context says where the server is.
	DefaultEndpoint = "http://127.0.0.1:8443"
	// DefaultTimeout is the deadline of unary calls.
	DefaultTimeout = 30 * time.Second
	// messageMax is the size of the largest message that is read, in bytes.
	messageMax = 64 << 20
)

var (
	errEnd    = io.EOF
	errClosed = &Error{Code: codes.Canceled, Message: "the client is closed"}
)

// TokenSource returns the bearer token of the next call; empty for none.
type TokenSource func(ctx context.Context) (string, error)

// Options says where the server is and who calls. The zero value reads the environment.
type Options struct {
	// Endpoint is the URL of the server. Default: SHOREGUARD_ENDPOINT, then the current context, then DefaultEndpoint.
	Endpoint string
	// Key is an API key or a session token. Default: SHOREGUARD_KEY, then the context.
	Key string
	// Token replaces Key with a function that is asked before each call.
	Token TokenSource
	// NoCredential ignores SHOREGUARD_KEY and the context.
	NoCredential bool
	// Context is the name of a context of the command line, in place of the environment.
	Context string
	// CA has the CA certificates of the server, PEM. Default: those of the context, then those of the system.
	CA []byte
	// Timeout is the deadline of unary calls whose context has none, with their repeats. Default: DefaultTimeout.
	Timeout time.Duration
	// Dial has further options for the connection.
	Dial []grpc.DialOption
}

// Client is a client of one server. Goroutines can share it. It connects at the first call.
type Client struct {
	Services
	// Gateway is the default gateway of the context; empty if it has none.
	Gateway string

	conn    *grpc.ClientConn
	timeout time.Duration
	// isPlain is whether what is sent can be read on the network.
	isPlain bool
	token   TokenSource
	// session precedes token. It is nil if the client has none.
	session atomic.Pointer[session]
	// isClosed is whether Close was called: then a watch does not resume.
	isClosed atomic.Bool
}

// New makes a client.
func New(options Options) (*Client, error) {
	target, err := findTarget(options)
	if err != nil {
		return nil, err
	}
	c := &Client{Gateway: target.gateway, timeout: options.Timeout, isPlain: target.isPlain, token: target.token}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	security := grpc.WithInsecure()
	if target.url.Scheme == "https" {
		roots, err := rootsOf(target.ca)
		if err != nil {
			return nil, err
		}
		security = grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}))
	}
	c.conn, err = dial(target.address(), append([]grpc.DialOption{
		security,
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(c.stream),
		grpc.WithUserAgent("shoreguard-client-go/0.1.0"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoffOf(),
			MinConnectTimeout: 20 * time.Second,
		}),
	}, options.Dial...)...)
	if err != nil {
		return nil, translate(err)
	}
	c.Services = newServices(c.conn)
	if target.session != nil {
		c.use(target.session)
	}
	return c, nil
}

// dial is the only use of a function that current versions of grpc deprecate: Debian's has no NewClient.
func dial(address string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.DialContext(context.Background(), address, options...)
}

// backoffOf makes connections return as fast as calls are repeated.
func backoffOf() grpcbackoff.Config {
	return grpcbackoff.Config{BaseDelay: firstDelay, Multiplier: 2, Jitter: jitter, MaxDelay: delayMax}
}

// Close ends all calls, watches and the connection. It waits for the answer to a refresh of the session, which would be
// lost. Further calls fail with ErrCancelled.
func (c *Client) Close() error {
	if s := c.session.Load(); s != nil {
		s.close()
	}
	c.isClosed.Store(true)
	return c.conn.Close()
}

// Login starts a session of a user. The client uses it from now on, refreshes it a minute before its token expires, and
// keeps it in memory only.
func (c *Client) Login(ctx context.Context, email, password string) (*pb.LoginResponse, error) {
	if c.isPlain {
		return nil, invalid("endpoint", "a password is sent over https:// only, except to loopback")
	}
	answer, err := c.Auth.Login(ctx, &pb.LoginRequest{Email: email, Password: password})
	if err != nil {
		return nil, err
	}
	started := credential{token: answer.SessionToken, refresh: answer.RefreshToken, expires: answer.ExpireTime.AsTime()}
	c.use(newSession(started, nil))
	return answer, nil
}

// use makes a session that of the client.
func (c *Client) use(s *session) {
	s.exchange = func(ctx context.Context, token string) (*pb.RefreshSessionResponse, error) {
		return c.Auth.RefreshSession(ctx, &pb.RefreshSessionRequest{RefreshToken: token})
	}
	if before := c.session.Swap(s); before != nil {
		before.close()
	}
}

// withoutSecrets has the methods without a credential that take and return no secret either.
var withoutSecrets = map[string]bool{
	"/shoreguard.v1.AuthService/GetServerInfo":     true,
	"/shoreguard.v1.AuthService/ListOidcProviders": true,
}

// authenticate adds the credential. A stale one would make a public method fail, so those get none.
func (c *Client) authenticate(ctx context.Context, method string) (context.Context, error) {
	if public[method] {
		if c.isPlain && !withoutSecrets[method] {
			return ctx, invalid("endpoint", method+" has secrets, which are sent over https:// only, except to loopback")
		}
		return ctx, nil
	}
	source := c.token
	if s := c.session.Load(); s != nil {
		source = s.token
	}
	token, err := source(ctx)
	if err != nil || token == "" {
		return ctx, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), nil
}

// OpenShell returns a connection to the API of a gateway through Shoreguard, for the stubs of a stock client of
// OpenShell. An empty name means the gateway of the context. Calls are not repeated.
func (c *Client) OpenShell(gateway string) (grpc.ClientConnInterface, error) {
	if gateway == "" {
		gateway = c.Gateway
	}
	if gateway == "" {
		return nil, invalid("gateway", "it is required, since the context has no default")
	}
	return &proxied{conn: c.conn, gateway: gateway}, nil
}

type proxied struct {
	conn    *grpc.ClientConn
	gateway string
}

func (p *proxied) with(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-shoreguard-gateway", p.gateway)
}

func (p *proxied) Invoke(ctx context.Context, method string, request, response interface{}, options ...grpc.CallOption) error {
	return p.conn.Invoke(p.with(ctx), method, request, response, options...)
}

func (p *proxied) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	return p.conn.NewStream(p.with(ctx), desc, method, options...)
}

// target is a server, and how it is reached.
type target struct {
	url     *url.URL
	token   TokenSource
	session *session
	ca      []byte
	gateway string
	isPlain bool
}

func (t *target) address() string {
	if t.url.Port() != "" {
		return t.url.Host
	}
	if t.url.Scheme == "https" {
		return net.JoinHostPort(t.url.Hostname(), "443")
	}
	return net.JoinHostPort(t.url.Hostname(), "80")
}

func findTarget(options Options) (*target, error) {
	endpoint, key := options.Endpoint, options.Key
	if endpoint == "" && options.Context == "" {
		endpoint = os.Getenv("SHOREGUARD_ENDPOINT")
	}
	if key == "" && options.Context == "" && !options.NoCredential {
		key = os.Getenv("SHOREGUARD_KEY")
	}
	t := &target{ca: options.CA}
	isNeeded := endpoint == "" || options.Context != ""
	found, err := readContext(options.Context)
	if isNeeded && err != nil {
		return nil, err
	}
	// An endpoint that is given can be that of the current context. Files that are not valid do not matter then.
	if isNeeded || err == nil && isSame(found.endpoint, endpoint) {
		if endpoint == "" {
			endpoint = found.endpoint
		}
		// The credential of a context is sent to its endpoint only.
		if key == "" && options.Token == nil && !options.NoCredential && isSame(found.endpoint, endpoint) {
			if found.credential.refresh == "" {
				key = found.credential.token
			} else {
				t.session = newSession(found.credential, &found.store)
			}
		}
		if t.ca == nil && found.ca != "" {
			if t.ca, err = os.ReadFile(found.ca); err != nil {
				return nil, invalid("ca", err.Error())
			}
		}
		t.gateway = found.gateway
	}
	if endpoint == "" {
		endpoint = DefaultEndpoint
	}
	if key != "" && !printable.MatchString(key) {
		return nil, invalid("key", "it contains spaces or characters that a credential cannot have")
	}
	t.token = options.Token
	if t.token == nil {
		t.token = func(context.Context) (string, error) { return key, nil }
	}
	t.url, t.isPlain, err = checkEndpoint(endpoint, key != "" || options.Token != nil || t.session != nil)
	if err == nil && t.ca != nil && t.url.Scheme != "https" {
		err = invalid("ca", "it needs an endpoint with https://")
	}
	return t, err
}

func isSame(one, other string) bool {
	return strings.TrimSuffix(one, "/") == strings.TrimSuffix(other, "/")
}

var printable = regexp.MustCompile(`^[\x21-\x7e]+$`)

// checkEndpoint parses a URL. A credential is not sent without TLS, except to loopback. isPlain is whether there is
// neither.
func checkEndpoint(endpoint string, hasCredential bool) (u *url.URL, isPlain bool, err error) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	u, err = url.Parse(endpoint)
	if err != nil || u.Hostname() == "" {
		return nil, false, invalid("endpoint", "it is not a URL such as https://shoreguard.example.com")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, false, invalid("endpoint", u.Scheme+":// is not supported: use https://")
	}
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, false, invalid("endpoint", "only scheme, host and port are allowed")
	}
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	isPlain = u.Scheme == "http" && !loopback
	if isPlain && hasCredential {
		return nil, false, invalid("endpoint", "a credential is sent over https:// only, except to loopback")
	}
	return u, isPlain, nil
}

func rootsOf(ca []byte) (*x509.CertPool, error) {
	if ca == nil {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, invalid("ca", "it has no certificate in PEM")
	}
	return roots, nil
}
