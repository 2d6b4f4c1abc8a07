package shoreguard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// entry is a context of the command line.
type entry struct {
	endpoint, ca, gateway, key string
}

// readContext reads a context, or the current one. It returns an empty entry if none is current.
func readContext(name string) (entry, error) {
	base := os.Getenv("XDG_CONFIG_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return entry{}, nil
		}
		base = filepath.Join(home, ".config")
	}
	path := filepath.Join(base, "shoreguard", "contexts.toml")
	contexts, err := readTables(path)
	if err != nil {
		return entry{}, err
	}
	if name == "" {
		name = contexts[""]["current"]
	}
	if name == "" {
		return entry{}, nil
	}
	found, ok := contexts["contexts\x00"+name]
	if !ok {
		return entry{}, invalid("context", fmt.Sprintf("`%s` does not exist in %s", name, path))
	}
	if found["endpoint"] == "" {
		return entry{}, invalid("context", fmt.Sprintf("`contexts.%s.endpoint` is missing in %s", name, path))
	}
	path = filepath.Join(filepath.Dir(path), "credentials.toml")
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return entry{}, invalid(path, "other users can read it: run `chmod 600` on it")
	}
	credentials, err := readTables(path)
	if err != nil {
		return entry{}, err
	}
	credential := credentials["contexts\x00"+name]
	if of := credential["endpoint"]; of != "" && of != found["endpoint"] {
		// It was stored for a server that had the name of this context before.
		credential = nil
	}
	key := credential["key"]
	if key == "" && credential["session_token"] != "" {
		why := fmt.Sprintf("`%s` has a session, which this client cannot refresh: use an API key, or Options.Token", name)
		return entry{}, invalid("context", why)
	}
	return entry{endpoint: found["endpoint"], ca: found["ca"], gateway: found["gateway"], key: key}, nil
}

var (
	tomlKey    = `(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')`
	tomlEmpty  = regexp.MustCompile(`^\s*(?:#.*)?$`)
	tomlHeader = regexp.MustCompile(`^\s*\[\s*(` + tomlKey + `(?:\s*\.\s*` + tomlKey + `)*)\s*\]\s*(?:#.*)?$`)
	tomlPair   = regexp.MustCompile(`^\s*(` + tomlKey + `)\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*'|[0-9A-Za-z+:.-]+)\s*(?:#.*)?$`)
	tomlPart   = regexp.MustCompile(tomlKey)
)

// readTables reads the part of TOML that the files use: tables of texts and times. Tables are named by their path,
// joined with NUL. A missing file has none.
func readTables(path string) (map[string]map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, invalid(path, err.Error())
	}
	table := ""
	tables := map[string]map[string]string{table: {}}
	for at, line := range strings.Split(string(text), "\n") {
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
			tables[table] = map[string]string{}
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
		tables[table][name] = content
	}
	return tables, nil
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
