//! A pseudo-terminal, with a command on it and a user who types.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::commands::{ChildProcess, text};
use crate::support::eventually;

/// A command on a terminal of 120 columns and 40 rows.
pub(super) struct Terminal {
    pub(super) process: ChildProcess,
    user: File,
    seen: Arc<Mutex<Vec<u8>>>,
    /// Keeps the terminal open, so that its mode can be read after the command has ended.
    _side: OwnedFd,
}

impl Terminal {
    /// Starts a command.
    pub(super) fn start(mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let user = openpt(flags).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let side = ioctl_tiocgptpeer(&user, flags).unwrap();
        tcsetwinsize(&side, size(120, 40)).unwrap();
        command.stdin(side.try_clone().unwrap());
        command.stdout(side.try_clone().unwrap()).stderr(side.try_clone().unwrap());
        let process = ChildProcess(command.spawn().unwrap());
        let user = File::from(user);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reading, sink) = (user.try_clone().unwrap(), Arc::clone(&seen));
        // Ends when the terminal is closed, which is an error on Linux.
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reading.read(&mut piece) {
                sink.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        Self { process, user, seen, _side: side }
    }

    /// Types a text.
    pub(super) fn type_text(&mut self, typed: &str) {
        self.user.write_all(typed.as_bytes()).unwrap();
    }

    /// Changes the size of the window. The command gets the signal, which it would get from a terminal of its session.
    pub(super) fn resize(&self, cols: u16, rows: u16) {
        tcsetwinsize(&self.user, size(cols, rows)).unwrap();
        self.process.signal("WINCH");
    }

    /// Returns what the terminal has shown.
    pub(super) fn shown(&self) -> String {
        text(&self.seen.lock().unwrap())
    }

    /// Waits until the terminal has shown a text this many times.
    pub(super) async fn until_times(&self, what: &str, times: usize) {
        eventually(&format!("`{what}` is shown"), || async {
            self.shown().matches(what).count() >= times
        })
        .await;
    }

    /// Waits until the terminal has shown a text.
    pub(super) async fn until(&self, what: &str) {
        self.until_times(what, 1).await;
    }

    /// Whether typed lines are edited by the terminal: not in raw mode.
    pub(super) fn edits_lines(&self) -> bool {
        tcgetattr(&self.user).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// Waits until the command has ended. Returns its exit code, if no signal ended it.
    pub(super) async fn ended(&mut self) -> Option<i32> {
        super::exit_code(&mut self.process.0).await
    }
}

fn size(cols: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }
}
