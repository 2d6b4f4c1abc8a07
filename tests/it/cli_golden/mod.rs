//! What commands print and how they exit: each command, as a table and as JSON, if it succeeds, if its object does not
//! exist, if it is denied, and if the server is away. Commands of the table run on one stage for all. Those that need
//! more to succeed do so in scenes, as do the commands that are written by hand.
//!
//! The files are reviewed like documentation: `INSTA_UPDATE=always` makes them again.

mod cases;
mod exits;
mod globals;
mod scenes;
mod scrub;

use std::fmt::Write;

use shoreguard::cli::{self, Captured};
use shoreguard::pb::v1::Role;
use shoreguard::resources::service_principals::worker::LAST_USED;
use shoreguard_simulator::{Generation, Simulator};

use crate::support::limit::start_time_limit;
use crate::support::server::{ADMIN_PASSWORD, TestServer};
use cases::{CASES, Case, IN_A_SCENE};

/// Nothing listens on this port.
const AWAY: &str = "http://127.0.0.1:1";

/// A form of the answer. Objects that a command changes have its letter in their names, since the command runs in both.
const FORMS: [(&str, &str); 2] = [("table", "t"), ("json", "j")];

/// Runs a command inside this process.
pub(crate) async fn run(endpoint: &str, key: &str, arguments: &str, input: &str) -> Captured {
    let mut all = vec!["shoreguard".to_owned()];
    all.extend(arguments.split_whitespace().map(str::to_owned));
    // Before `--`, which ends the options.
    let at = all.iter().position(|argument| argument == "--").unwrap_or(all.len());
    // Ends a stream that does not end by itself.
    let options = ["--endpoint", endpoint, "--key", key, "--timeout", "20"].map(str::to_owned);
    drop(all.splice(at..at, options));
    cli::run_captured(all, input.as_bytes().to_vec()).await
}

/// Returns the arguments of a command with the form of its answer, which precedes `--`.
fn with_form(arguments: &str, (output, letter): (&str, &str)) -> String {
    let (before, after) = arguments.split_once(" -- ").unwrap_or((arguments, ""));
    let after = if after.is_empty() { String::new() } else { format!(" -- {after}") };
    format!("{before} --yes -o {output}{after}").replace("{f}", letter)
}

/// Commands whose answer has one form only: the default, which `-o table` names too.
const ONE_FORM: [&str; 3] = ["sandbox exec", "approval review", "sbom download"];

/// A server with a gateway and what the cases name.
struct Stage {
    endpoint: String,
    admin: String,
    denied: String,
    /// Values that exist only after the server has started, by their name in the cases.
    values: Vec<(&'static str, String)>,
    _simulator: Simulator,
}

impl Stage {
    async fn build(sg: &TestServer) -> Self {
        let simulator = sg.start_gateway("edge", Generation::V0_1).await;
        simulator.seed_demo().unwrap();
        let admin = sg.admin();
        let denied = admin.create_key("denied", Role::None).await;
        for (_, form) in FORMS {
            sg.create_user(&format!("bob-{form}@example.com"), Role::Viewer).await;
            admin.create_key(&format!("ci-{form}"), Role::Viewer).await;
        }
        // Now, and not while commands run.
        sg.run_job(&LAST_USED).await;
        let endpoint = format!("http://{}", sg.address);
        let mut stage = Self {
            endpoint,
            admin: sg.admin_key.clone(),
            denied,
            values: Vec::new(),
            _simulator: simulator,
        };
        for (name, command) in cases::VALUES {
            let made = stage.run_as_admin(command).await;
            assert_eq!(made.code, 0, "{command}: {}", made.stderr);
            let value = made.stdout.trim().to_owned();
            if name == "operation" {
                admin.wait_operation(&value).await;
            }
            stage.values.push((name, value));
        }
        stage
    }

    async fn run_as_admin(&self, arguments: &str) -> Captured {
        run(&self.endpoint, &self.admin, arguments, ADMIN_PASSWORD).await
    }

    /// Returns the arguments of a case in a form.
    fn arguments(&self, case: &Case, arguments: &str, form: (&str, &str)) -> String {
        let filled = self.values.iter().fold(arguments.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        });
        with_form(&format!("{} {filled}", case.command), form)
    }
}

/// Adds a run to the file.
fn show(file: &mut String, what: &str, arguments: &str, ran: &Captured) {
    let shown = arguments.replace(" --yes", "");
    writeln!(file, "$ {shown}  # {what}: exits with {}", ran.code).unwrap();
    for line in ran.stdout.trim_end().lines() {
        writeln!(file, "{line}").unwrap();
    }
    for line in ran.stderr.trim_end().lines() {
        writeln!(file, "! {line}").unwrap();
    }
}

/// Runs all commands of a noun. Returns the file, and the runs that did not exit as their case says.
async fn file_of(sg: &TestServer, noun: &str) -> (String, Vec<String>) {
    let stage = Stage::build(sg).await;
    let (mut file, mut faults) = (String::new(), Vec::new());
    let mut check = |arguments: &str, ran: &Captured, codes: &[u8]| {
        if !codes.contains(&ran.code) {
            faults.push(format!("{arguments}: {} {}", ran.code, ran.stderr));
        }
    };
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.noun() == noun).collect();
    for form in FORMS {
        for case in cases.iter().filter(|case| case.reason().is_none()) {
            let arguments = stage.arguments(case, case.good, form);
            let ran = stage.run_as_admin(&arguments).await;
            check(&arguments, &ran, &[0]);
            show(&mut file, "ok", &arguments, &ran);
        }
    }
    for form in FORMS {
        let is_one = |case: &&&Case| ONE_FORM.contains(&case.command) && form.0 != "table";
        for case in cases.iter().filter(|case| !is_one(case)) {
            if case.refused != "-" {
                let arguments = stage.arguments(case, case.refused, form);
                let ran = stage.run_as_admin(&arguments).await;
                check(&arguments, &ran, &[1, 4]);
                show(&mut file, "refused", &arguments, &ran);
            }
            let arguments = stage.arguments(case, case.any(), form);
            let ran = run(&stage.endpoint, &stage.denied, &arguments, ADMIN_PASSWORD).await;
            show(&mut file, "denied", &arguments, &ran);
            let ran = run(AWAY, &stage.admin, &arguments, ADMIN_PASSWORD).await;
            check(&arguments, &ran, &[5]);
            show(&mut file, "server away", &arguments, &ran);
        }
    }
    let mut file = scrub::scrub(&file);
    // Short values, such as the id of a hook, are the same in each run.
    for (name, value) in stage.values.iter().filter(|(_, value)| value.len() > 20) {
        file = file.replace(value.as_str(), &format!("<{name}>"));
    }
    (file, faults)
}

#[test]
fn every_command_of_the_table_has_a_case() {
    let _limit = start_time_limit();
    let commands: Vec<&str> = cli::table_commands().collect();
    for command in &commands {
        assert!(CASES.iter().any(|case| case.command == *command), "`{command}` has no case");
    }
    for case in CASES {
        assert!(commands.contains(&case.command), "`{}` is not a command", case.command);
        let has_test = NOUNS.contains(&case.noun());
        assert!(has_test, "list the noun of `{}`", case.command);
        let is_shown = scenes::COMMANDS.contains(&case.command);
        assert_eq!(is_shown, case.good == IN_A_SCENE, "the scene of `{}`", case.command);
    }
}

#[test]
fn every_command_that_is_written_by_hand_has_a_scene() {
    let _limit = start_time_limit();
    for (noun, verb) in cli::hand_written_commands() {
        let command = format!("{noun} {verb}");
        let is_shown = scenes::COMMANDS.contains(&command.as_str());
        // It succeeds on a terminal only, on which its own tests run it.
        assert_ne!(is_shown, command == "approval review", "the scene of `{command}`");
    }
}

/// Makes one test for each noun.
macro_rules! nouns {
    ($($test:ident: $noun:literal,)+) => {
        const NOUNS: &[&str] = &[$($noun),+];
        $(async fn $test(sg: TestServer) {
            let (file, faults) = file_of(&sg, $noun).await;
            sg.finish().await;
            assert!(faults.is_empty(), "{faults:#?}\n{file}");
            insta::assert_snapshot!(stringify!($test), file);
        })+
        sqlite_tests! { $($test),+ }
    };
}

nouns! {
    approval: "approval",
    audit: "audit",
    boot_hook: "boot-hook",
    event: "event",
    gateway: "gateway",
    group: "group",
    operation: "operation",
    pin: "pin",
    policy: "policy",
    role: "role",
    sandbox: "sandbox",
    sbom: "sbom",
    server: "server",
    service_principal: "service-principal",
    session: "session",
    user: "user",
    webhook: "webhook",
    workflow: "workflow",
}
