use super::*;
use crate::RecordId;
use crate::signature::KeyId;

/// A home with the models `open` and `closed` of one publisher, a version each: 1 and 2.
struct Home;

const NOW: u64 = 100;

fn publisher() -> PublisherId {
    PublisherId::from_bytes([9; 32])
}

fn version(n: u8) -> VersionId {
    VersionId::from_bytes([n; 32])
}

impl AccessView for Home {
    fn is_public(&self, publisher: &PublisherId, model: &str) -> bool {
        *publisher == self::publisher() && model == "open"
    }

    fn has_version(&self, publisher: &PublisherId, model: &str, version: &VersionId) -> bool {
        let own = match model {
            "open" => self::version(1),
            "closed" => self::version(2),
            _ => return false,
        };
        *publisher == self::publisher() && own == *version
    }
}

fn ask(caller: &Caller, model: &str, root: Option<u8>) -> Grant {
    grant(
        &Home,
        caller,
        root.map(version).as_ref(),
        &publisher(),
        model,
        NOW,
    )
}

fn peer(capabilities: Vec<Capability>) -> Caller {
    Caller::Peer {
        id: [3; 32],
        capabilities,
    }
}

fn capability(version: Option<u8>, expires: Option<u64>) -> Capability {
    Capability {
        publisher: publisher(),
        model: "closed".into(),
        version: version.map(self::version),
        signer: KeyId::from_bytes([1; 32]),
        identity: RecordId::from_bytes([1; 32]),
        expires,
        nonce: [0; 16],
    }
}

fn token(models: &str, write: bool) -> TokenScopes {
    let scope = TokenScope {
        publisher: None,
        models: models.into(),
        write,
    };
    TokenScopes {
        scopes: vec![scope],
        expires: None,
    }
}

#[test]
fn private_and_absent_answer_alike() {
    for caller in [
        Caller::Anonymous,
        peer(vec![]),
        Caller::Token(token("x*", true).into()),
    ] {
        for root in [None, Some(2), Some(7)] {
            assert_eq!(ask(&caller, "closed", root), ask(&caller, "absent", root));
            assert_eq!(ask(&caller, "closed", root), Grant::None);
        }
        assert_eq!(
            visible(&Home, &caller, &publisher(), "closed", NOW),
            Visible::Nothing
        );
    }
}

#[test]
fn what_is_public_is_read_by_everyone_and_changed_by_none() {
    for caller in [
        Caller::Anonymous,
        peer(vec![]),
        Caller::Token(token("x*", true).into()),
    ] {
        assert_eq!(ask(&caller, "open", None), Grant::Read);
        assert_eq!(ask(&caller, "open", Some(1)), Grant::Read);
        assert_eq!(
            visible(&Home, &caller, &publisher(), "open", NOW),
            Visible::Everything
        );
    }
}

#[test]
fn a_private_version_is_not_read_in_the_name_of_a_public_model() {
    for caller in [
        Caller::Anonymous,
        peer(vec![]),
        Caller::Token(token("open", true).into()),
    ] {
        assert_eq!(ask(&caller, "open", Some(2)), Grant::None);
    }
    let all_of_closed = peer(vec![capability(None, None)]);
    assert_eq!(ask(&all_of_closed, "closed", Some(1)), Grant::None);
}

#[test]
fn a_capability_grants_its_scope_until_it_ends() {
    let all = peer(vec![capability(None, Some(NOW + 1))]);
    assert_eq!(ask(&all, "closed", None), Grant::Read);
    assert_eq!(ask(&all, "closed", Some(2)), Grant::Read);
    assert_eq!(
        visible(&Home, &all, &publisher(), "closed", NOW),
        Visible::Everything
    );
    let one = peer(vec![capability(Some(2), None)]);
    assert_eq!(ask(&one, "closed", None), Grant::None);
    assert_eq!(ask(&one, "closed", Some(2)), Grant::Read);
    let seen = visible(&Home, &one, &publisher(), "closed", NOW);
    assert_eq!(seen, Visible::Only([version(2)].into()));
    assert!(seen.contains(&version(2)) && !seen.contains(&version(1)));
    let ended = peer(vec![capability(None, Some(NOW))]);
    assert_eq!(ask(&ended, "closed", Some(2)), Grant::None);
    let other = PublisherId::from_bytes([8; 32]);
    assert_eq!(grant(&Home, &all, None, &other, "closed", NOW), Grant::None);
}

#[test]
fn a_token_grants_what_its_scopes_say() {
    let ask_with = |token: TokenScopes, root| ask(&Caller::Token(token.into()), "closed", root);
    assert_eq!(ask_with(token("clo*", false), None), Grant::Read);
    assert_eq!(ask_with(token("*", true), Some(2)), Grant::Write);
    assert_eq!(
        ask_with(
            TokenScopes {
                expires: Some(NOW),
                ..token("*", true)
            },
            None
        ),
        Grant::None
    );
    let mut other = token("*", true);
    other.scopes[0].publisher = Some(PublisherId::from_bytes([8; 32]));
    assert_eq!(ask_with(other, None), Grant::None);
}

#[test]
fn the_owner_may_do_everything() {
    assert_eq!(ask(&Caller::Owner, "closed", Some(2)), Grant::Write);
    assert_eq!(ask(&Caller::Owner, "new", None), Grant::Write);
}
