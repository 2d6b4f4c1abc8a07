//! A mail server for one test: aiosmtpd, a process on loopback, with a certificate of a CA of the test.
//!
//! It exits with the test, and when the pipe to it is closed, even if this process crashes.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::dns::python;

/// Writes its port, and then each mail that it has accepted, as a line of JSON. Refuses steps and recipients with the
/// answers of `refusals`.
const PROGRAM: &str = "
import asyncio, json, os, ssl, sys, threading
from aiosmtpd.smtp import SMTP, AuthResult
wanted = json.loads(sys.argv[1])
refusals, login = wanted['refusals'], wanted['login']
context = None
if wanted['tls'] != 'none':
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(wanted['certificate'], wanted['key'])
def say(**what):
    print(json.dumps(what), flush=True)
class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        if 'MAIL' in refusals:
            return refusals['MAIL']
        envelope.mail_from = address
        return '250 OK'
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in refusals:
            return refusals[address]
        envelope.rcpt_tos.append(address)
        return '250 OK'
    async def handle_DATA(self, server, session, envelope):
        if 'DATA' in refusals:
            return refusals['DATA']
        text = envelope.content.decode('ascii')
        say(sender=envelope.mail_from, to=envelope.rcpt_tos, text=text, user=session.auth_data)
        return '250 OK'
def authenticate(server, session, envelope, mechanism, data):
    is_right = [data.login.decode(), data.password.decode()] == login
    return AuthResult(success=is_right, handled=False, auth_data=data.login.decode())
def make():
    starttls = context if wanted['tls'] == 'starttls' else None
    return SMTP(Handler(), hostname='mail.example', tls_context=starttls, require_starttls=starttls is not None,
        authenticator=authenticate, auth_required=login is not None, auth_require_tls=starttls is not None)
async def main():
    implicit = context if wanted['tls'] == 'implicit' else None
    server = await asyncio.get_running_loop().create_server(make, '127.0.0.1', 0, ssl=implicit)
    say(port=server.sockets[0].getsockname()[1])
    await server.serve_forever()
def until_alone():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=until_alone, daemon=True).start()
asyncio.run(main())
";

/// Files of a CA and of a certificate for `localhost`.
pub(crate) struct MailKeys {
    folder: tempfile::TempDir,
}

impl MailKeys {
    /// Creates them.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        for (name, text) in [
            ("ca.pem", ca.pem()),
            ("certificate.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    /// Returns the file of the CA.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

/// A running server.
pub(crate) struct MailServer {
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl MailServer {
    /// Starts a server: with `starttls`, `implicit` or `none`, with a login or without authentication, and with what it
    /// refuses.
    pub(crate) fn start(
        keys: &MailKeys,
        tls: &str,
        login: Option<(&str, &str)>,
        refusals: &Value,
    ) -> Self {
        let login = login.map(|(user, password)| [user, password]);
        let wanted = json!({
            "tls": tls,
            "login": login,
            "refusals": refusals,
            "certificate": keys.folder.path().join("certificate.pem"),
            "key": keys.folder.path().join("key.pem"),
        });
        let mut child = Command::new(python("aiosmtpd"))
            .args(["-W", "ignore", "-c", PROGRAM, &wanted.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { port: 0, child, output };
        let started = server.read().expect("the mail server has not started");
        server.port = u16::try_from(started["port"].as_u64().unwrap()).unwrap();
        server
    }

    /// Returns the next mail. It was written before the client got its answer.
    pub(crate) fn next_mail(&mut self) -> Value {
        self.read().expect("the mail server has ended")
    }

    /// Stops the server. Returns the mails that were not read.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        drop(self.child.stdin.take());
        let mut rest = Vec::new();
        while let Some(mail) = self.read() {
            rest.push(mail);
        }
        rest
    }

    fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
