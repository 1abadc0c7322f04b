//! Scopes: who may call a route, and what its handler can touch.
//!
//! A handler sees the node through its scope's means alone, so what it cannot be trusted with it
//! does not hold.

use std::sync::Arc;

use bytes::Bytes;

use crate::{answer::Problem, gateway::Gateway, visitor::Visitor};

/// Who may call a route.
pub trait Scope: 'static {
    /// What a handler of this scope gets.
    type Means: Send + 'static;

    /// Its name in the OpenAPI document.
    const NAME: &'static str;

    /// The means, when this visitor may have them.
    ///
    /// # Errors
    /// 401 where a token would help, 403 where another one would, or nothing would.
    fn admit(gateway: &Arc<Gateway>, visitor: &Visitor) -> Result<Self::Means, Problem>;
}

/// Anyone who reaches the port: whether the node lives, and what it speaks.
#[derive(Debug)]
pub struct Anyone;

/// The owner of the home, and who has a token of scope `admin`: figures about the node.
#[derive(Debug)]
pub struct Admin;

/// The owner, through the socket in the home: commands.
#[derive(Debug)]
pub struct Control;

/// The means of [`Anyone`].
#[derive(Debug)]
pub struct Lobby(Arc<Gateway>);

/// The means of [`Admin`].
#[derive(Debug)]
pub struct Desk(Arc<Gateway>);

/// The means of [`Control`].
#[derive(Debug)]
pub struct Bridge(Arc<Gateway>);

impl Scope for Anyone {
    type Means = Lobby;
    const NAME: &'static str = "anyone";

    fn admit(gateway: &Arc<Gateway>, _: &Visitor) -> Result<Lobby, Problem> {
        Ok(Lobby(Arc::clone(gateway)))
    }
}

impl Scope for Admin {
    type Means = Desk;
    const NAME: &'static str = "admin";

    fn admit(gateway: &Arc<Gateway>, visitor: &Visitor) -> Result<Desk, Problem> {
        visitor.check_admin()?;
        Ok(Desk(Arc::clone(gateway)))
    }
}

impl Scope for Control {
    type Means = Bridge;
    const NAME: &'static str = "control";

    fn admit(gateway: &Arc<Gateway>, visitor: &Visitor) -> Result<Bridge, Problem> {
        visitor.check_control()?;
        Ok(Bridge(Arc::clone(gateway)))
    }
}

impl Lobby {
    /// Whether the node takes requests: it has started and is not stopping.
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    /// The OpenAPI document.
    pub fn openapi(&self) -> Bytes {
        self.0.openapi()
    }
}

impl Desk {
    /// All figures, as Prometheus reads them.
    pub async fn figures(&self) -> String {
        self.0.figures().await
    }
}

impl Bridge {
    /// What runs commands, and the token that stops them with the gateway.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.0
    }
}
