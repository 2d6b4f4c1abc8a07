//! `shoreguard backup` beside a busy server, and `shoreguard restore` into empty and other places.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shoreguard::pb::v1 as pb;
use tokio::task::JoinSet;

use crate::commands::text;
use crate::support::child::{ChildServer, ChildSetup};
use crate::support::server::Caller;
use crate::support::{eventually, limit};

/// Number of callers that write while the backup is made.
const WRITERS: usize = 3;
/// Changes of each of them before the backup begins.
const CHANGES_BEFORE: u64 = 5;
const FILES: [&str; 3] = ["configuration.toml", "manifest.json", "shoreguard.db"];

async fn serve(setup: &ChildSetup) -> ChildServer {
    let mut command = setup.command(&["serve"]);
    command.stdout(Stdio::null()).stderr(File::create(setup.log_path()).unwrap());
    setup.serve(command).await
}

/// Runs a command to its end.
async fn run(setup: &ChildSetup, arguments: &[&str]) -> Output {
    let mut command = setup.command(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn succeed(setup: &ChildSetup, arguments: &[&str]) -> String {
    let done = run(setup, arguments).await;
    assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
    text(&done.stdout).trim().to_owned()
}

async fn fail(setup: &ChildSetup, arguments: &[&str], why: &str) {
    let done = run(setup, arguments).await;
    let said = text(&done.stderr);
    assert!(!done.status.success() && said.contains(why), "{arguments:?}: {said}");
}

/// Creates the database and an admin. Returns the admin's key.
async fn create_admin(setup: &ChildSetup) -> String {
    succeed(setup, &["admin", "create-service-principal", "root", "--role", "admin"]).await
}

/// A server setup without data, which has the master key of another one.
fn empty_place(key_of: &ChildSetup) -> ChildSetup {
    let place = ChildSetup::new("");
    fs::create_dir(place.data_dir()).unwrap();
    fs::copy(key_of.data_dir().join("shoreguard.key"), place.data_dir().join("shoreguard.key"))
        .unwrap();
    place
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn group_of(writer: usize) -> String {
    format!("load-{writer}")
}

async fn create_group(caller: &Caller, writer: usize) {
    let request = pb::CreateGroupRequest {
        name: group_of(writer),
        role: pb::Role::None.into(),
        ..Default::default()
    };
    caller.groups().create_group(request).await.unwrap();
}

/// Sets the description of a group to a number.
async fn describe(caller: &Caller, writer: usize, number: u64) {
    let request = pb::UpdateGroupRequest {
        group: group_of(writer),
        update_mask: Some(prost_types::FieldMask { paths: vec!["description".to_owned()] }),
        description: number.to_string(),
        ..Default::default()
    };
    caller.groups().update_group(request).await.unwrap();
}

/// Returns the number in the description of a group, and its etag.
async fn described(caller: &Caller, writer: usize) -> (u64, String) {
    let request = pb::GetGroupRequest { group: group_of(writer) };
    let group = caller.groups().get_group(request).await.unwrap().into_inner().group.unwrap();
    (group.description.parse().unwrap(), group.etag)
}

async fn audit_entries(caller: &Caller, action: &str) -> Vec<pb::AuditEntry> {
    let request = pb::ListAuditEntriesRequest { action: action.to_owned(), ..Default::default() };
    caller.audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries
}

/// Returns a character for each byte. A text is searched in a fraction of the time of bytes.
fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Asserts that only the owner can read the files, and that none contains the master key.
fn assert_private(folder: &Path, key_file: &Path) {
    assert_eq!(mode(folder), 0o700);
    let key = fs::read_to_string(key_file).unwrap();
    let bytes = characters(&STANDARD.decode(key.trim()).unwrap());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        assert_eq!(mode(&entry.path()), 0o600, "{entry:?}");
        let content = characters(&fs::read(entry.path()).unwrap());
        assert!(!content.contains(key.trim()) && !content.contains(&bytes), "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, FILES);
}

#[test]
fn a_backup_of_a_busy_server_is_restored_with_everything_that_was_committed_before() {
    limit::block_on(async {
        let setup = ChildSetup::new("");
        let key = create_admin(&setup).await;
        let child = serve(&setup).await;
        let ended = Arc::new(AtomicBool::new(false));
        let changes: Arc<[AtomicU64; WRITERS]> = Arc::default();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let caller = child.caller(Some(&key));
            create_group(&caller, writer).await;
            let (ended, changes) = (Arc::clone(&ended), Arc::clone(&changes));
            writers.spawn(async move {
                while !ended.load(Ordering::SeqCst) {
                    let number = changes[writer].load(Ordering::SeqCst) + 1;
                    describe(&caller, writer, number).await;
                    changes[writer].store(number, Ordering::SeqCst);
                }
            });
        }
        let count = || changes.each_ref().map(|count| count.load(Ordering::SeqCst));
        eventually("all write", async || count().iter().all(|count| *count >= CHANGES_BEFORE))
            .await;

        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("backup");
        let shown = folder.to_str().unwrap();
        let before = count();
        let printed = succeed(&setup, &["backup", shown]).await;
        ended.store(true, Ordering::SeqCst);
        while let Some(done) = writers.join_next().await {
            done.unwrap();
        }
        let after = count();
        assert!(printed.contains("store the master key"), "{printed}");
        let entries = audit_entries(&child.caller(Some(&key)), "database.back_up").await;
        assert_eq!(entries.len(), 1);
        assert_eq!(
            (entries[0].actor.as_str(), entries[0].resource_id.as_str()),
            ("system:backup", shown)
        );
        assert_eq!(entries[0].outcome(), pb::AuditOutcome::Ok);
        assert!(child.stop().await.success());
        assert_private(&folder, &setup.data_dir().join("shoreguard.key"));

        let place = empty_place(&setup);
        succeed(&place, &["restore", shown]).await;
        assert_eq!(mode(&place.data_dir().join("shoreguard.db")), 0o600);
        let child = serve(&place).await;
        let admin = child.caller(Some(&key));
        for (writer, (before, after)) in before.into_iter().zip(after).enumerate() {
            let (number, etag) = described(&admin, writer).await;
            assert!((before..=after).contains(&number), "{number}");
            assert_eq!(etag, format!("v{}", number + 1), "the state of one moment");
        }
        let entries = audit_entries(&admin, "database.restore").await;
        assert_eq!((entries.len(), entries[0].actor.as_str()), (1, "system:restore"));
        assert!(child.stop().await.success());
    });
}

/// Returns a backup of a stopped server.
async fn backed_up(setup: &ChildSetup, outer: &Path) -> PathBuf {
    create_admin(setup).await;
    let folder = outer.join("backup");
    succeed(setup, &["backup", folder.to_str().unwrap()]).await;
    folder
}

#[test]
fn a_backup_is_restored_only_into_an_empty_place_with_its_master_key() {
    limit::block_on(async {
        let (setup, outer) = (ChildSetup::new(""), tempfile::tempdir().unwrap());
        let folder = backed_up(&setup, outer.path()).await;
        let restore = ["restore", folder.to_str().unwrap()];

        fail(&setup, &restore, "exists").await;
        for ending in ["", "-wal", "-shm", "-journal"] {
            let place = empty_place(&setup);
            let file = place.data_dir().join(format!("shoreguard.db{ending}"));
            fs::write(&file, "x").unwrap();
            fail(&place, &restore, "into an empty place only").await;
            assert_eq!(fs::read(&file).unwrap(), b"x");
        }

        let without_key = ChildSetup::new("");
        fail(&without_key, &restore, "shoreguard.key` does not exist").await;
        let other_key = ChildSetup::new(&format!("[keys]\nmaster_key = \"{}\"", "5a".repeat(32)));
        fail(&other_key, &restore, "which is not configured").await;
        for place in [&without_key, &other_key] {
            assert!(!place.data_dir().join("shoreguard.db").exists());
        }
    });
}

#[test]
fn a_backup_needs_each_master_key_that_may_have_sealed_a_part_of_it() {
    limit::block_on(async {
        let (former, current) = ("5a".repeat(32), "6b".repeat(32));
        let old = ChildSetup::new(&format!("[keys]\nmaster_key = \"{former}\""));
        let outer = tempfile::tempdir().unwrap();
        let before = backed_up(&old, outer.path()).await;
        let both =
            format!("[keys]\nmaster_key = \"{current}\"\nolder_master_keys = [\"{former}\"]");
        let changed = ChildSetup::new(&both);
        succeed(&changed, &["restore", before.to_str().unwrap()]).await;

        let folder = outer.path().join("after");
        let printed = succeed(&changed, &["backup", folder.to_str().unwrap()]).await;
        let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let ids = manifest["master_key_ids"].as_array().unwrap();
        assert_eq!(ids.len(), 2);
        assert!(ids.iter().all(|id| printed.contains(id.as_str().unwrap())), "{printed}");

        let restore = ["restore", folder.to_str().unwrap()];
        let without_former = ChildSetup::new(&format!("[keys]\nmaster_key = \"{current}\""));
        let why = format!("{}`, which is not configured", ids[1].as_str().unwrap());
        fail(&without_former, &restore, &why).await;
        succeed(&ChildSetup::new(&both), &restore).await;
    });
}

#[test]
fn a_damaged_backup_is_not_restored() {
    limit::block_on(async {
        let (setup, outer) = (ChildSetup::new(""), tempfile::tempdir().unwrap());
        let folder = backed_up(&setup, outer.path()).await;
        let restore = ["restore", folder.to_str().unwrap()];
        let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap();

        // The manifest claims the configured key, and the database does not open with it.
        let other = ChildSetup::new(&format!("[keys]\nmaster_key = \"{}\"", "5a".repeat(32)));
        let elsewhere = outer.path().join("elsewhere");
        create_admin(&other).await;
        succeed(&other, &["backup", elsewhere.to_str().unwrap()]).await;
        let of_other = fs::read_to_string(elsewhere.join("manifest.json")).unwrap();
        let id = |manifest: &str| {
            let manifest: serde_json::Value = serde_json::from_str(manifest).unwrap();
            manifest["master_key_ids"][0].as_str().unwrap().to_owned()
        };
        let mixed = of_other.replace(&id(&of_other), &id(&manifest));
        fs::write(elsewhere.join("manifest.json"), mixed).unwrap();
        let place = empty_place(&setup);
        fail(&place, &["restore", elsewhere.to_str().unwrap()], "another master key").await;
        let left = fs::read_dir(place.data_dir()).unwrap().map(|entry| entry.unwrap().file_name());
        let databases = left.filter(|name| {
            let name = name.to_str().unwrap();
            name.starts_with("shoreguard.db") && name != "shoreguard.db.lock"
        });
        assert_eq!(databases.count(), 0);

        let mut bytes = fs::read(folder.join("shoreguard.db")).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(folder.join("shoreguard.db"), bytes).unwrap();
        let place = empty_place(&setup);
        fail(&place, &restore, "is damaged").await;
        assert_eq!(fs::read_dir(place.data_dir()).unwrap().count(), 1, "only the key is there");

        fs::remove_file(folder.join("manifest.json")).unwrap();
        fail(&place, &restore, "is not the manifest of a backup").await;
    });
}

#[test]
fn a_backup_that_fails_leaves_no_folder_and_an_existing_folder_is_refused() {
    limit::block_on(async {
        let (setup, outer) = (ChildSetup::new(""), tempfile::tempdir().unwrap());
        let folder = outer.path().join("backup");
        let backup = ["backup", folder.to_str().unwrap()];
        fail(&setup, &backup, "does not exist").await;
        assert!(!folder.exists(), "no database");

        create_admin(&setup).await;
        fs::write(setup.data_dir().join("shoreguard.key"), STANDARD.encode([7; 32])).unwrap();
        fail(&setup, &backup, "another master key").await;
        assert!(!folder.exists(), "another key");

        fs::create_dir(&folder).unwrap();
        fail(&setup, &backup, "cannot be created").await;
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    });
}

#[test]
fn a_lost_master_key_is_not_replaced_by_a_new_one() {
    limit::block_on(async {
        let setup = ChildSetup::new("");
        succeed(&setup, &["migrate"]).await;
        let key = setup.data_dir().join("shoreguard.key");
        assert!(!key.exists(), "a schema alone needs no key");
        create_admin(&setup).await;
        fs::remove_file(&key).unwrap();
        for command in [&["serve"][..], &["admin", "create-user", "ana@example.com"]] {
            fail(&setup, command, "shoreguard.key` does not exist").await;
            assert!(!key.exists(), "{command:?}");
        }
    });
}

#[test]
fn a_backup_of_postgresql_is_left_to_its_own_tools() {
    limit::block_on(async {
        let setup = ChildSetup::new(&format!(
            "[database]\nurl = \"postgres://a:b@127.0.0.1:1/c\"\n[keys]\nmaster_key = \"{}\"",
            "5a".repeat(32)
        ));
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("backup");
        for (command, tool) in [("backup", "pg_dump"), ("restore", "pg_restore")] {
            let done = run(&setup, &[command, folder.to_str().unwrap()]).await;
            assert_eq!(done.status.code(), Some(2));
            assert!(text(&done.stderr).contains(tool), "{}", text(&done.stderr));
        }
        assert!(!folder.exists());
    });
}
