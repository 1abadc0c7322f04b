#![allow(clippy::unwrap_used)]
use lode_store::{PublisherId, name::PublisherName, store::Options};

use super::*;

fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("home"), Options::default()).unwrap()
}

fn new(name: &str, power: Power, models: &[&str], expires_seconds: Option<u64>) -> NewToken {
    NewToken {
        name: Some(name.to_owned()),
        power,
        models: models.iter().map(|text| text.parse().unwrap()).collect(),
        expires_seconds,
    }
}

fn bytes_under(folder: &std::path::Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => bytes.extend(bytes_under(&path)),
            false => bytes.extend(std::fs::read(path).unwrap_or_default()),
        }
    }
    bytes
}

#[test]
fn a_token_survives_the_node_and_its_text_is_kept_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = Tokens::open(store(&folder)).unwrap();
    assert!(!tokens.rule());
    let (secret, made) = tokens
        .create(new("ci", Power::Write, &["acme/*"], Some(60)))
        .unwrap();
    assert!(tokens.rule());
    drop(tokens);
    let tokens = Tokens::open(store(&folder)).unwrap();
    assert!(tokens.rule());
    let found = tokens.find(secret.expose().as_bytes()).unwrap();
    assert_eq!(found, made);
    assert_eq!(found.expires, Some(found.created + 60));
    drop(tokens);
    let (home, text) = (bytes_under(folder.path()), secret.expose().as_bytes());
    assert!(
        home.windows(2).any(|two| two == b"ci"),
        "the files were read"
    );
    assert!(!home.windows(text.len()).any(|window| window == text));
}

#[test]
fn a_removed_token_is_unknown_at_once_and_the_home_does_not_fall_open() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = Tokens::open(store(&folder)).unwrap();
    let (secret, made) = tokens.create(new("a", Power::Read, &["*"], None)).unwrap();
    let (other, _) = tokens.create(new("b", Power::Read, &["*"], None)).unwrap();
    tokens.remove("a").unwrap();
    assert_eq!(
        tokens.find(secret.expose().as_bytes()),
        Err(Unwelcome::Unknown)
    );
    assert!(tokens.find(other.expose().as_bytes()).is_ok());
    assert!(matches!(tokens.remove("a"), Err(TokenError::Absent(_))));
    assert!(matches!(
        tokens.remove(&made.id.to_string()),
        Err(TokenError::Absent(_))
    ));
    let b = tokens.list()[0].id.to_string();
    tokens.remove(&b).unwrap();
    assert!(tokens.list().is_empty() && tokens.rule());
    drop(tokens);
    let tokens = Tokens::open(store(&folder)).unwrap();
    assert!(tokens.list().is_empty() && tokens.rule());
    tokens.remove_all().unwrap();
    assert!(!tokens.rule());
    drop(tokens);
    assert!(!Tokens::open(store(&folder)).unwrap().rule());
}

#[test]
fn an_expired_token_lets_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = Tokens::open(store(&folder)).unwrap();
    let (secret, made) = tokens
        .create(new("a", Power::Admin, &["*"], Some(0)))
        .unwrap();
    assert!(tokens.is_expired(&made));
    assert_eq!(
        tokens.find(secret.expose().as_bytes()),
        Err(Unwelcome::Expired)
    );
    let (secret, _) = tokens
        .create(new("b", Power::Read, &["*"], Some(u64::MAX)))
        .unwrap();
    assert!(tokens.find(secret.expose().as_bytes()).is_ok());
}

#[test]
fn an_alias_in_a_token_stands_for_whom_it_is_bound_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let tokens = Tokens::open(store.clone()).unwrap();
    let (_, token) = tokens
        .create(new("a", Power::Write, &["acme/t*", "*/open"], None))
        .unwrap();
    let whose = || -> Vec<_> {
        let scopes = tokens.scopes(&token).unwrap();
        scopes.scopes.iter().map(|scope| scope.publisher).collect()
    };
    assert_eq!(
        whose(),
        [None],
        "a name that is bound to nobody covers nothing"
    );
    let acme = PublisherName::Alias("acme".to_owned());
    assert!(token.writes_unbound(&acme, "tiny"));
    assert!(!token.writes_unbound(&acme, "big"));
    assert!(!token.writes_unbound(&PublisherName::Alias("other".to_owned()), "tiny"));
    let (one, two) = (PublisherId::of(b"1"), PublisherId::of(b"2"));
    store.local_set("alias/acme", one.as_bytes()).unwrap();
    assert_eq!(whose(), [Some(one), None]);
    store.local_set("alias/acme", two.as_bytes()).unwrap();
    assert_eq!(whose(), [Some(two), None]);
}

#[test]
fn a_record_that_is_not_understood_lets_nobody_in_and_tokens_rule() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    store.local_set("token/0011223344556677", b"later").unwrap();
    let tokens = Tokens::open(store).unwrap();
    assert!(tokens.rule() && tokens.list().is_empty());
}

#[test]
fn what_makes_no_token_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = Tokens::open(store(&folder)).unwrap();
    let refused = |new| tokens.create(new).unwrap_err();
    let some = new("a", Power::Admin, &["acme/*"], None);
    assert!(matches!(refused(some), TokenError::AdminModels));
    let models = ["*/m"; limits::TOKEN_MODELS_MAX + 1];
    let many = new("a", Power::Read, &models, None);
    assert!(matches!(refused(many), TokenError::TooManyModels));
    let all = new("a", Power::Read, &models[1..], None);
    tokens.create(all.clone()).unwrap();
    assert!(matches!(refused(all), TokenError::Taken(_)));
    assert!(matches!(
        refused(new("", Power::Read, &["*"], None)),
        TokenError::Name(_)
    ));
}

#[test]
fn a_home_has_a_bounded_number_of_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let made = |number: usize| {
        let digest = blake3::hash(&number.to_le_bytes());
        let token = Token {
            id: TokenId::of(&digest),
            name: format!("t{number}"),
            power: Power::Read,
            models: vec![ModelsGlob::all()],
            created: 1,
            expires: None,
            digest,
        };
        Record::local_set(&token.id.key(), &token.encode()).unwrap()
    };
    let records: Vec<_> = (1..TOKENS_MAX).map(made).collect();
    store.append(&records).unwrap();
    let tokens = Tokens::open(store).unwrap();
    let last = |name| tokens.create(new(name, Power::Read, &["*"], None));
    last("a").unwrap();
    assert!(matches!(last("b"), Err(TokenError::TooMany)));
    tokens.remove("t1").unwrap();
    last("b").unwrap();
}
