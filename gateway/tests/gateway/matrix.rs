//! Every route of the table, asked by everyone: what comes of it follows from the route's scope alone. A
//! route that is added is asked too.

use crate::client;
use crate::guarded::{Guarded, SECRET};
use lode_gateway::policy::Policy;
use lode_node::tokens::Power;
use lode_store::ChunkHash;
use sha2::{Digest, Sha256};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Anonymous,
    Reader,
    Writer,
    Admin,
    Expired,
    Revoked,
    /// With a token that may read another model.
    OtherReader,
    /// With a token that may change another model.
    OtherWriter,
}

const ASKERS: [Asker; 8] = [
    Asker::Anonymous,
    Asker::Expired,
    Asker::Revoked,
    Asker::OtherReader,
    Asker::OtherWriter,
    Asker::Reader,
    Asker::Writer,
    Asker::Admin,
];

/// What scopes say of an answer, before any handler is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The handler decides, and lets in.
    Let,
    /// As if there were no such model.
    Absent,
    /// A token is wanted.
    Unauthorized,
    /// Another token is wanted, or nothing helps.
    Forbidden,
    /// The address itself would have to prove that it was given out, whoever asks.
    Sealed,
}

fn expected(scope: &str, asker: Asker) -> Expected {
    use Asker::{Admin, Anonymous, Expired, OtherReader, OtherWriter, Reader, Revoked, Writer};
    use Expected::{Absent, Forbidden, Let, Unauthorized};
    match (scope, asker) {
        ("anyone", _) => Let,
        ("control", _) => Forbidden,
        ("granted", _) => Expected::Sealed,
        (_, Expired | Revoked) => Unauthorized,
        (_, Admin) => Let,
        ("read", Anonymous | OtherReader | OtherWriter) => Absent,
        ("read", Reader | Writer) => Let,
        ("write", Anonymous) => Unauthorized,
        ("write", Reader | OtherReader) => Forbidden,
        ("write", Writer) => Let,
        ("write", OtherWriter) => Absent,
        ("admin", Anonymous) => Unauthorized,
        ("admin", _) => Forbidden,
        (scope, _) => panic!("the matrix does not know the scope {scope:?}"),
    }
}

/// The model and the collection that the matrix asks for, and others.
const HIDDEN: [&str; 2] = ["acme/hidden", "mine/hidden"];
const OTHER: [&str; 2] = ["acme/other", "mine/other"];

struct Tokens(Vec<(Asker, Option<String>)>);

impl Tokens {
    fn of(node: &Guarded) -> Self {
        let token = |asker| match asker {
            Asker::Anonymous => None,
            Asker::Reader => Some(node.token(Power::Read, &HIDDEN, None)),
            Asker::Writer => Some(node.token(Power::Write, &HIDDEN, None)),
            Asker::Admin => Some(node.token(Power::Admin, &[], None)),
            Asker::Expired => Some(node.token(Power::Admin, &[], Some(0))),
            Asker::Revoked => {
                let token = node.token(Power::Admin, &[], None);
                node.revoke(&token);
                Some(token)
            }
            Asker::OtherReader => Some(node.token(Power::Read, &OTHER, None)),
            Asker::OtherWriter => Some(node.token(Power::Write, &OTHER, None)),
        };
        Self(ASKERS.map(|asker| (asker, token(asker))).into())
    }

    fn header(&self, asker: Asker) -> Option<String> {
        let (_, token) = self.0.iter().find(|(own, _)| *own == asker).unwrap();
        token.as_ref().map(|token| format!("Bearer {token}"))
    }
}

/// The path that a pattern stands for, about `model`.
fn path(pattern: &str, model: &str) -> String {
    let hash = ChunkHash::of(SECRET).to_string();
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(SECRET));
    let digest = format!("sha256:{digest}");
    let collection = &format!("mine%2F{model}");
    let fill = |segment: &str| {
        let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
            return segment.to_owned();
        };
        match name.trim_end_matches('.') {
            "publisher" => "acme",
            "model" => model,
            "collection" => collection,
            "rev" => "main",
            "path" => "a.txt",
            "hash" => &hash,
            "reference" => "main",
            "digest" => &digest,
            _ => "x",
        }
        .to_owned()
    };
    pattern.split('/').map(fill).collect::<Vec<_>>().join("/")
}

async fn ask(
    node: &Guarded,
    tokens: &Tokens,
    asker: Asker,
    route: &(String, String),
    model: &str,
) -> (u16, String) {
    let (method, pattern) = route;
    let token = tokens.header(asker);
    let headers: Vec<_> = token
        .iter()
        .map(|token| ("authorization", token.as_str()))
        .collect();
    let method = method.parse().unwrap();
    let mut answer = client::over_http(node.http, method, &path(pattern, model), &headers).await;
    let status = answer.status();
    let body = answer.bytes().await.unwrap();
    (status, timeless(&String::from_utf8_lossy(&body)))
}

/// An answer without the time that it took, which Qdrant's dialect says.
fn timeless(body: &str) -> String {
    match body.split_once("\"time\":") {
        Some((before, after)) => {
            let number = |c: char| !matches!(c, '0'..='9' | '.' | 'e' | '-');
            let rest = after.find(number).map_or("", |end| &after[end..]);
            format!("{before}\"time\":0{rest}")
        }
        None => body.to_owned(),
    }
}

/// Everyone asks more often here than is usual.
fn unpaced() -> Policy {
    Policy {
        token_rate: None,
        anonymous_rate: None,
        // Its routes are asked, too.
        xet_reads: true,
        ..Policy::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_everyone_as_its_scope_says() {
    let mut node = Guarded::start(unpaced()).await;
    let mut tokens = Tokens::of(&node);
    let mut asked = 0;
    for (method, pattern, scope) in node.routes() {
        let route = (method, pattern);
        for asker in ASKERS {
            let expected = expected(&scope, asker);
            let (status, body) = ask(&node, &tokens, asker, &route, "hidden").await;
            let said = format!("{route:?} ({scope}) asked by {asker:?}: {status} {body}");
            match expected {
                // What a handler refuses has nothing to do with tokens.
                Expected::Let => {
                    assert!(
                        status != 401 && (status != 403 || !body.contains("token")),
                        "{said}"
                    );
                }
                Expected::Sealed => assert!((400..500).contains(&status), "{said}"),
                Expected::Unauthorized => assert_eq!(status, 401, "{said}"),
                Expected::Forbidden => assert_eq!(status, 403, "{said}"),
                Expected::Absent => {
                    let (other, absent) = ask(&node, &tokens, asker, &route, "absent").await;
                    let same = body.replace("hidden", "absent");
                    assert_eq!((status, same.as_str()), (other, absent.as_str()), "{said}");
                    let named = route.1.contains("{model}") || route.1.contains("{collection}");
                    if !named {
                        assert!(!body.contains("hidden"), "{said}");
                    }
                    if scope == "write" && route.1.contains("{model}") {
                        assert!(status >= 400, "{said}");
                    }
                }
            }
            if expected != Expected::Let {
                assert!(
                    !body.contains(std::str::from_utf8(SECRET).unwrap()),
                    "{said}"
                );
            }
            asked += 1;
            if expected == Expected::Let && scope == "write" && status < 400 {
                // It may have changed what the others are asked about.
                node = Guarded::start(unpaced()).await;
                tokens = Tokens::of(&node);
            }
        }
    }
    assert!(asked >= 8 * 17, "the table has routes");
}
