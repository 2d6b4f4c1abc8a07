//! Tests of contexts and credentials in a folder of their own.

use std::fs;

use super::*;
use crate::secret::Secret;

fn context(name: &str, endpoint: &str) -> Context {
    Context { name: name.to_owned(), endpoint: endpoint.to_owned(), ca: None, gateway: None }
}

fn key(text: &str) -> Credential {
    Credential::Key(Secret::new(text))
}

#[tokio::test]
async fn contexts_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(&folder.path().join("new"));
    let prod = Context {
        ca: Some("/etc/ssl/ca.pem".into()),
        gateway: Some("prod-eu".to_owned()),
        ..context("prod", "https://sg.example.com")
    };
    let lock = store.lock(None).await.unwrap();
    let mut contexts = lock.contexts().unwrap();
    assert!(contexts.current().unwrap().is_none());
    contexts.put(&prod);
    contexts.put(&context("a.b", "http://127.0.0.1:1"));
    contexts.set_current("prod");
    lock.write_contexts(&contexts).unwrap();
    drop(lock);

    let mut contexts = store.contexts().unwrap();
    assert_eq!(contexts.names(), ["a.b", "prod"]);
    assert_eq!(contexts.current().unwrap(), Some(prod.clone()));
    contexts.put(&Context { gateway: None, ..prod });
    assert_eq!(contexts.get("prod").unwrap().unwrap().gateway, None);
    contexts.remove("prod");
    assert_eq!((contexts.names(), contexts.current_name()), (vec!["a.b"], None));
    let why = contexts.require("prod").unwrap_err().to_string();
    assert_eq!(why, "context `prod` does not exist: known are `a.b`");
}

#[tokio::test]
async fn a_credential_is_stored_for_one_context_and_its_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let (one, two) = (context("one", "https://one"), context("two", "https://two"));
    let lock = store.lock(None).await.unwrap();
    lock.begin_credentials().unwrap().put(&one, &key("sg_1")).unwrap();
    lock.begin_credentials().unwrap().put(&two, &key("sg_2")).unwrap();
    assert_eq!(store.credential(&one).unwrap(), Some(key("sg_1")));
    assert_eq!(store.credential(&two).unwrap(), Some(key("sg_2")));
    // A context that was changed by hand does not send the credential elsewhere.
    assert_eq!(store.credential(&context("one", "https://evil")).unwrap(), None);
    lock.remove_credential("one").unwrap();
    lock.remove_credential("one").unwrap();
    assert_eq!(store.credential(&one).unwrap(), None);
    assert_eq!(store.credential(&two).unwrap(), Some(key("sg_2")));
}

#[test]
fn a_credential_of_an_sdk_has_no_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CREDENTIALS);
    let file = Replacement::begin(&path).unwrap();
    file.commit(&"[contexts.ci]\nkey = \"sg_1\"\n".parse().unwrap()).unwrap();
    let store = Store::at(folder.path());
    assert_eq!(store.credential(&context("ci", "https://any")).unwrap(), Some(key("sg_1")));
    assert_eq!(store.credential(&context("other", "https://any")).unwrap(), None);
}

#[test]
fn a_wrong_document_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    for (text, why) in [
        ("contexts = 1", "`contexts` must be a table"),
        ("[contexts]\na = 1", "`contexts.a` must be a table"),
        ("[contexts.a]\nca = \"x\"", "`contexts.a.endpoint` is missing"),
        ("[contexts.a]\nendpoint = 1", "`contexts.a.endpoint` must be a text"),
    ] {
        Replacement::begin(&folder.path().join(CONTEXTS))
            .unwrap()
            .commit(&text.parse().unwrap())
            .unwrap();
        let refused = store.contexts().unwrap().get("a").unwrap_err().to_string();
        assert!(refused.contains(why), "{text}: {refused}");
    }
}

#[tokio::test]
async fn only_one_program_has_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let lock = store.lock(None).await.unwrap();
    let other = files::open_lock(&folder.path().join(LOCK)).unwrap();
    assert_eq!(flock(&other, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    for timeout in [Duration::ZERO, Duration::from_millis(1)] {
        let late = store.lock(Some(timeout)).await.unwrap_err();
        assert_eq!(late.exit_code(), 5);
        let why = late.to_string();
        assert!(why.contains(LOCK) && why.contains("--timeout"), "{why}");
    }
    drop(lock);
    store.lock(Some(Duration::ZERO)).await.unwrap();
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [LOCK]);
}

#[test]
fn names_of_contexts_are_plain() {
    for name in ["prod", "a.b-c_1", &"x".repeat(NAME_BYTES_MAX)] {
        assert!(check_name(name).is_ok(), "{name}");
    }
    for name in ["", "a b", "a/b", "é", &"x".repeat(NAME_BYTES_MAX + 1)] {
        assert!(check_name(name).is_err(), "{name}");
    }
}
