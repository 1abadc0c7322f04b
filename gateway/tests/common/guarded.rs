//! A node over HTTP with a private model, a public one, private collections, and tokens.

use std::{net::SocketAddr, sync::Arc};

use lode_gateway::{Running, ServeOptions, gateway::Gateway, policy::Policy, serve, tls::Tls};
use lode_index::{CollectionConfig, Dim, Dtype, Metric, VectorParams};
use lode_node::{
    NetworkOptions, Node, NodeOptions,
    tokens::{NewToken, Power, models::ModelsGlob},
};
use tokio_util::sync::CancellationToken;

use super::published::{Held, Published};

/// What `acme/hidden` holds.
pub(crate) const SECRET: &[u8] = b"bytes that not everyone may read";

pub(crate) struct Guarded {
    pub(crate) http: SocketAddr,
    pub(crate) node: Node,
    _running: Running,
    _folder: tempfile::TempDir,
}

impl Guarded {
    pub(crate) async fn start(policy: Policy) -> Self {
        Self::start_with(policy, None).await
    }

    pub(crate) async fn start_with(policy: Policy, tls: Option<Arc<Tls>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Published::new(folder.path());
        let refs = ["heads/main"];
        home.push("hidden", &[("a.txt", Held::Pack, SECRET)], &[], &refs);
        home.push("other", &[("a.txt", Held::Pack, b"other")], &[], &refs);
        let refs = ["heads/main", "access/public"];
        home.push("open", &[("a.txt", Held::Pack, b"open")], &[], &refs);
        drop(home);
        let options = NodeOptions {
            network: NetworkOptions {
                offline: true,
                listen: Some("127.0.0.1:0".parse().unwrap()),
                ..NetworkOptions::default()
            },
            ..NodeOptions::default()
        };
        let node = Node::open(&folder.path().join("home"), options).unwrap();
        // the home's own publisher is another than the one of the models
        let params = VectorParams {
            dim: Dim::new(2).unwrap(),
            metric: Metric::Dot,
            dtype: Dtype::F32,
        };
        for name in ["mine/hidden", "mine/other"] {
            let config = CollectionConfig::single(params);
            node.collections().create(name, config, false).unwrap();
        }
        let options = ServeOptions {
            http: Some("127.0.0.1:0".parse().unwrap()),
            socket: folder.path().join("control.sock"),
            policy,
            tls,
        };
        let running = serve(node.clone(), options, CancellationToken::new())
            .await
            .unwrap();
        Self {
            http: running.http.unwrap(),
            node,
            _running: running,
            _folder: folder,
        }
    }

    /// Makes a token of the running node.
    pub(crate) fn token(&self, power: Power, models: &[&str], expires: Option<u64>) -> String {
        let models = models.iter().map(|text| text.parse().unwrap());
        let new = NewToken {
            name: None,
            power,
            models: models.collect::<Vec<ModelsGlob>>(),
            expires_seconds: expires,
        };
        let (secret, _) = self.node.tokens().create(new).unwrap();
        secret.expose().to_owned()
    }

    /// Removes a token of the running node.
    pub(crate) fn revoke(&self, token: &str) {
        let found = self.node.tokens().find(token.as_bytes()).unwrap();
        self.node.tokens().remove(&found.name).unwrap();
    }

    /// Method, pattern and scope of every route.
    pub(crate) fn routes(&self) -> Vec<(String, String, String)> {
        let backend = Arc::new(self.node.clone());
        let gateway = Gateway::new(backend, Policy::default(), CancellationToken::new());
        let routes = gateway.routes().iter();
        let row = |route: &lode_gateway::route::Route| {
            let text = (route.method().as_str(), route.pattern(), route.scope());
            (text.0.to_owned(), text.1.to_owned(), text.2.to_owned())
        };
        routes.map(row).collect()
    }
}
