package shoreguard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

const (
	// lockTimeMax is how long to wait for another program that has the lock. It makes one call at most.
	lockTimeMax = time.Minute
	// lockPause is the pause between attempts to get the lock.
	lockPause = 20 * time.Millisecond
	// othersCanRead has the bits of the mode that let other users read or write a file: it has credentials.
	othersCanRead = fs.FileMode(0o077)
	// othersCanWrite has those that let other users write a file: it says where credentials are sent.
	othersCanWrite = fs.FileMode(0o022)
)

// files are the files of a user that the command line and all SDKs share, and the lock that is held while one changes.
type files struct {
	contexts, credentials, lock string
}

// userFiles returns the files that the environment names. ok is false without a home folder.
func userFiles() (f files, ok bool) {
	base := os.Getenv("XDG_CONFIG_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return files{}, false
		}
		base = filepath.Join(home, ".config")
	}
	in := func(name string) string { return filepath.Join(base, "shoreguard", name) }
	return files{in("contexts.toml"), in("credentials.toml"), in("credentials.lock")}, true
}

// entry is a context of the command line.
type entry struct {
	store
	ca, gateway string
	credential  credential
}

// readContext reads a context, or the current one. It returns an empty entry if none is current.
func readContext(name string) (entry, error) {
	user, ok := userFiles()
	if !ok {
		return entry{}, nil
	}
	contexts, err := readDocument(user.contexts, othersCanWrite)
	if err != nil {
		return entry{}, err
	}
	if name == "" {
		name = contexts.tables[""]["current"]
	}
	if name == "" {
		return entry{}, nil
	}
	found, ok := contexts.tables[pathOf(name)]
	if !ok {
		return entry{}, invalid("context", fmt.Sprintf("`%s` does not exist in %s", name, user.contexts))
	}
	if found["endpoint"] == "" {
		return entry{}, invalid("context", fmt.Sprintf("`contexts.%s.endpoint` is missing in %s", name, user.contexts))
	}
	e := entry{store: store{user, name, found["endpoint"]}, ca: found["ca"], gateway: found["gateway"]}
	credentials, err := readDocument(user.credentials, othersCanRead)
	if err != nil {
		return entry{}, err
	}
	e.credential, err = e.read(credentials)
	return e, err
}

// store is where the credential of a context is stored.
type store struct {
	files
	name, endpoint string
}

// read returns the credential of the context. It is empty if the context has none, or one for another endpoint: a name
// can be given to another server while this program runs. An entry without an endpoint is for that of its context.
func (s store) read(credentials *document) (credential, error) {
	found := credentials.tables[pathOf(s.name)]
	storedFor := found["endpoint"]
	if storedFor == "" {
		contexts, err := readDocument(s.contexts, othersCanWrite)
		if err != nil {
			return credential{}, err
		}
		storedFor = contexts.tables[pathOf(s.name)]["endpoint"]
	}
	if storedFor != s.endpoint {
		return credential{}, nil
	}
	c := credential{token: found["session_token"], refresh: found["refresh_token"]}
	if c.token == "" {
		c = credential{token: found["key"]}
	} else {
		var err error
		if c.expires, err = time.Parse(time.RFC3339, strings.Replace(found["expire_time"], " ", "T", 1)); err != nil {
			why := fmt.Sprintf("`contexts.%s.expire_time` must be a time with a time zone", s.name)
			return credential{}, invalid(s.credentials, why)
		}
	}
	if c.token != "" && !printable.MatchString(c.token) {
		why := fmt.Sprintf("`contexts.%s` has spaces or characters that a credential cannot have", s.name)
		return credential{}, invalid(s.credentials, why)
	}
	return c, nil
}

// acquire waits until no other program changes the credentials, and keeps others from it until release is called.
func (f files) acquire(ctx context.Context) (release func(), err error) {
	file, err := os.OpenFile(f.lock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, invalid(f.lock, err.Error())
	}
	for began := time.Now(); ; {
		if ctx.Err() != nil {
			file.Close()
			return nil, errClosed
		}
		isLocked, err := tryLock(file)
		if isLocked {
			return func() { file.Close() }, nil
		}
		if err == nil && time.Since(began) > lockTimeMax {
			err = fmt.Errorf("another program has had the lock for %s", lockTimeMax)
		}
		if err != nil {
			file.Close()
			return nil, invalid(f.lock, err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(lockPause):
		}
	}
}

// replacement is the new content of a file. Its own file exists already, so that a folder that cannot be written is
// found before the content is requested.
type replacement struct {
	file   *os.File
	target string
}

// replace begins to replace a file. The caller discards the replacement in any case.
func replace(target string) (*replacement, error) {
	// Only its owner can read it.
	file, err := os.CreateTemp(filepath.Dir(target), ".credentials-*")
	if err != nil {
		return nil, invalid(target, err.Error())
	}
	return &replacement{file, target}, nil
}

// commit replaces the target. The content is on disk before the name, so that a crash leaves the old or the new file.
func (r *replacement) commit(text string) error {
	_, err := r.file.WriteString(text)
	if err == nil {
		err = r.file.Sync()
	}
	if err == nil {
		err = os.Rename(r.file.Name(), r.target)
	}
	if err != nil {
		return invalid(r.target, err.Error())
	}
	// The new file is in place, so a folder that cannot be synchronized is not an error.
	if folder, err := os.Open(filepath.Dir(r.target)); err == nil {
		folder.Sync()
		folder.Close()
	}
	return nil
}

// discard removes what was not committed.
func (r *replacement) discard() {
	r.file.Close()
	os.Remove(r.file.Name())
}

var (
	tomlKey    = `(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')`
	tomlEmpty  = regexp.MustCompile(`^\s*(?:#.*)?$`)
	tomlHeader = regexp.MustCompile(`^\s*\[\s*(` + tomlKey + `(?:\s*\.\s*` + tomlKey + `)*)\s*\]\s*(?:#.*)?$`)
	tomlPair   = regexp.MustCompile(`^\s*(` + tomlKey + `)\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*'|[0-9A-Za-z+:.-]+(?: \d\d:[0-9Zz+:.-]+)?)\s*(?:#.*)?$`)
	tomlPart   = regexp.MustCompile(tomlKey)
)

// document is a file of tables of texts and times, which is the part of TOML that the files use.
type document struct {
	lines []string
	// tables are named by their path, joined with NUL.
	tables map[string]map[string]string
	// places has where in lines each table is, except the first, which has no header.
	places map[string]place
}

// place has the header of a table, and the line after its last pair.
type place struct {
	begin, end int
}

// pathOf returns the path of the table of a context.
func pathOf(name string) string { return "contexts\x00" + name }

// readDocument reads a file whose mode has none of the forbidden bits. A missing file is empty.
func readDocument(path string, forbidden fs.FileMode) (*document, error) {
	text, err := readFile(path, forbidden)
	if err != nil {
		return nil, err
	}
	table := ""
	d := &document{
		lines:  strings.Split(text, "\n"),
		tables: map[string]map[string]string{table: {}},
		places: map[string]place{},
	}
	for at, line := range d.lines {
		line = strings.TrimSuffix(line, "\r")
		if tomlEmpty.MatchString(line) {
			continue
		}
		wrong := invalid(path, fmt.Sprintf("line %d is not understood; only tables of texts and times are", at+1))
		if header := tomlHeader.FindStringSubmatch(line); header != nil {
			var parts []string
			for _, part := range tomlPart.FindAllString(header[1], -1) {
				name, ok := unquote(part)
				if !ok {
					return nil, wrong
				}
				parts = append(parts, name)
			}
			table = strings.Join(parts, "\x00")
			d.tables[table] = map[string]string{}
			d.places[table] = place{at, at + 1}
			continue
		}
		pair := tomlPair.FindStringSubmatch(line)
		if pair == nil {
			// The line is not shown, since it can be a credential.
			return nil, wrong
		}
		name, ok := unquote(pair[1])
		content, isText := unquote(pair[2])
		if !ok || !isText {
			return nil, wrong
		}
		d.tables[table][name] = content
		d.places[table] = place{d.places[table].begin, at + 1}
	}
	return d, nil
}

func readFile(path string, forbidden fs.FileMode) (string, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", invalid(path, err.Error())
	}
	defer file.Close()
	// The mode of the open file, since the file at the path can be replaced in between.
	info, err := file.Stat()
	if err != nil {
		return "", invalid(path, err.Error())
	}
	// A file of another user could direct credentials to another server. Root can change every file anyway.
	if owner, ok := ownerOf(info); ok && owner != 0 && owner != os.Geteuid() {
		return "", invalid(path, "it belongs to another user")
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&forbidden != 0 {
		what := "read"
		if forbidden == othersCanWrite {
			what = "write"
		}
		return "", invalid(path, "other users can "+what+" it: run `chmod 600` on it")
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return "", invalid(path, err.Error())
	}
	return string(text), nil
}

// with returns the text of the file with these lines in place of a table that it has. Everything else is kept.
func (d *document) with(table string, lines []string) string {
	at := d.places[table]
	all := append([]string{}, d.lines[:at.begin]...)
	all = append(all, lines...)
	all = append(all, d.lines[at.end:]...)
	return strings.TrimRight(strings.Join(all, "\n"), "\n") + "\n"
}

// quote returns a text of TOML. A text of JSON is one, except for DEL.
func quote(text string) string {
	quoted, _ := json.Marshal(text)
	return strings.ReplaceAll(string(quoted), "\x7f", `\u007f`)
}

// unquote returns a name or text. A basic string of TOML is one of JSON, as far as the files have them.
func unquote(text string) (string, bool) {
	switch {
	case strings.HasPrefix(text, "'"):
		return text[1 : len(text)-1], true
	case strings.HasPrefix(text, `"`):
		var content string
		err := json.Unmarshal([]byte(text), &content)
		return content, err == nil
	default:
		return text, true
	}
}
