//! Commands of the `sh` blocks of README.md and of the pages in `docs/` exist with their arguments, and the requests of
//! `shoreguard call` are messages of its methods. They are not run: most need the server or the files of the reader.
//! `console_blocks.rs` runs the blocks that show an output.

use std::fs;

use prost_reflect::{DynamicMessage, MethodDescriptor};
use shoreguard::cli;
use shoreguard::pb::descriptors;

use crate::console_blocks::documents;
use crate::support::limit;

const PROGRAM: &str = "shoreguard";
/// Minimum number of commands in the documents: with fewer, the blocks were not read.
const COMMANDS_MIN: usize = 40;

/// Returns the words of each command of a script: lines and pipes end a command, except in quotes.
fn commands(script: &str) -> Vec<Vec<String>> {
    let (mut all, mut command, mut word) = (Vec::new(), Vec::new(), String::new());
    let (mut is_word, mut quote) = (false, None);
    let joined = script.replace("\\\n", " ");
    let mut characters = joined.chars();
    while let Some(mut c) = characters.next() {
        if quote == Some(c) {
            quote = None;
            continue;
        }
        if quote.is_some() {
            word.push(c);
            continue;
        }
        if c == '#' && !is_word {
            c = characters.find(|c| *c == '\n').unwrap_or('\n');
        }
        let is_end = matches!(c, '\n' | '|' | ';' | '&');
        if (is_end || c.is_whitespace()) && is_word {
            command.push(std::mem::take(&mut word));
            is_word = false;
        }
        if is_end {
            all.push(std::mem::take(&mut command));
        } else if !c.is_whitespace() {
            is_word = true;
            match c {
                '\'' | '"' => quote = Some(c),
                _ => word.push(c),
            }
        }
    }
    command.extend(is_word.then_some(word));
    all.push(command);
    all
}

/// Returns the arguments of a command that runs the program, without redirections. Variables and `sudo` can precede it.
fn arguments(command: &[String]) -> Option<&[String]> {
    let at = command.iter().position(|word| word == PROGRAM)?;
    let is_run = at == 0 || command[0] == "sudo" || command[at - 1].ends_with(')');
    let arguments = &command[at + 1..];
    let end = arguments.iter().position(|word| ["<", ">"].contains(&word.as_str()));
    let arguments = &arguments[..end.unwrap_or(arguments.len())];
    (is_run && !arguments.is_empty()).then_some(arguments)
}

/// Returns the arguments of all commands of a page that run the program.
fn commands_of(page: &str) -> Vec<Vec<String>> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let commands = blocks.flat_map(commands);
    commands.filter_map(|command| arguments(&command).map(<[String]>::to_vec)).collect()
}

fn method(name: &str) -> Option<MethodDescriptor> {
    let name = name.rsplit('/').next()?;
    let services = descriptors::OWN.pool().services();
    let mut methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.find(|method| method.name() == name)
}

/// Returns the fault of the request of `shoreguard call`; `None` if it is valid.
fn fault_of_request(arguments: &[String]) -> Option<String> {
    let [call, name, request] = arguments else { return None };
    if call != "call" {
        return None;
    }
    let Some(method) = method(name) else { return Some(format!("`{name}` is unknown")) };
    let mut json = serde_json::Deserializer::from_str(request);
    DynamicMessage::deserialize(method.input(), &mut json).err().map(|error| error.to_string())
}

/// Returns the fault of the arguments; `None` if a command has them.
async fn fault_of_arguments(arguments: &[String]) -> Option<String> {
    let mut all = vec![PROGRAM.to_owned()];
    all.extend_from_slice(arguments);
    // The help is printed after all arguments before it were parsed, and does not require others.
    let at = all.iter().position(|word| word == "--").unwrap_or(all.len());
    all.insert(at, "--help".to_owned());
    let done = cli::run_captured(all, Vec::new()).await;
    (done.code != 0).then_some(done.stderr)
}

#[test]
fn commands_of_shell_blocks_exist_with_their_arguments() {
    limit::block_on(async {
        let (mut count, mut faults) = (0, Vec::new());
        for document in documents() {
            for arguments in commands_of(&fs::read_to_string(&document).unwrap()) {
                count += 1;
                let fault = match fault_of_request(&arguments) {
                    Some(fault) => Some(fault),
                    None => fault_of_arguments(&arguments).await,
                };
                faults.extend(
                    fault.map(|fault| format!("{}: {arguments:?}: {fault}", document.display())),
                );
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
        assert!(count >= COMMANDS_MIN, "{count} commands");
    });
}

#[test]
fn the_words_of_commands_are_found() {
    let _limit = limit::start_time_limit();
    let page = "```sh\n\
                A=$(cat 'a b') shoreguard role list | grep x    # a user's role\n\
                shoreguard call Vote '{\"a\":\n 1}' > out; sudo run \\\n  shoreguard backup\n\
                systemctl enable shoreguard\nhelm install shoreguard chart\n```\n";
    let found = commands_of(page);
    assert_eq!(found, [vec!["role", "list"], vec!["call", "Vote", "{\"a\":\n 1}"], vec!["backup"]]);
}

#[test]
fn wrong_commands_and_requests_are_faults() {
    limit::block_on(async {
        for wrong in ["gateway got edge", "gateway get edge --nothing", "call --nothing GetGateway"]
        {
            let arguments: Vec<String> = wrong.split(' ').map(str::to_owned).collect();
            assert!(fault_of_arguments(&arguments).await.is_some(), "{wrong}");
        }
        for (name, request, is_wrong) in [
            ("GetGateway", r#"{"gateway": "edge"}"#, false),
            ("GetGateway", r#"{"name": "edge"}"#, true),
            ("GetNothing", "{}", true),
        ] {
            let arguments = ["call", name, request].map(str::to_owned);
            assert_eq!(fault_of_request(&arguments).is_some(), is_wrong, "{name} {request}");
        }
    });
}
