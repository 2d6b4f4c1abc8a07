//! Opens a page in the browser of the user.

use std::process::{Command, Stdio};

/// Opens a web page, which the caller has checked. A host without a browser is not an error: the URL is printed, too.
pub(super) fn open(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    // Without a display, `xdg-open` would start a browser on the terminal.
    let has_display =
        ["DISPLAY", "WAYLAND_DISPLAY"].map(std::env::var_os).iter().any(Option::is_some);
    if !has_display && !cfg!(target_os = "macos") {
        return;
    }
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A thread waits for the program, which can run as long as the browser.
    let waiting = std::thread::Builder::new().name("browser".to_owned());
    let _ = waiting.spawn(move || command.status());
}
