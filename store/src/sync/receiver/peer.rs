//! A peer to fetch from: an address that is dialled when it is needed, and one connection that is kept.

use std::{fmt, sync::Arc, time::Duration};

use iroh::{
    Endpoint, EndpointAddr, EndpointId,
    endpoint::{Connection, VarInt},
};
use tokio::{sync::Mutex, time::timeout};

use crate::sync::endpoint::{BLOBS_ALPN, Net};

use super::{Have, Reason};

/// A peer that speaks `/iroh-bytes/4`. Clones share its connection.
#[derive(Clone)]
pub struct Peer {
    endpoint: Endpoint,
    addr: EndpointAddr,
    have: Option<Arc<Have>>,
    connection: Arc<Mutex<Option<Connection>>>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Peer {
    /// A peer that is dialled at `addr` when it is needed.
    pub fn new(net: &Net, addr: impl Into<EndpointAddr>) -> Self {
        let (endpoint, addr) = (net.endpoint().clone(), addr.into());
        Self {
            endpoint,
            addr,
            have: None,
            connection: Arc::default(),
        }
    }

    /// The same peer, of which is known what it holds; without, it is taken to hold everything.
    #[must_use]
    pub fn holding(mut self, have: Arc<Have>) -> Self {
        self.have = Some(have);
        self
    }

    /// Its node key.
    pub fn id(&self) -> EndpointId {
        self.addr.id
    }

    /// Where it is dialled.
    pub fn addr(&self) -> &EndpointAddr {
        &self.addr
    }

    pub(super) fn have(&self) -> Option<Arc<Have>> {
        self.have.clone()
    }

    /// The connection that is kept, or a new one.
    pub(super) async fn connect(&self, within: Duration) -> Result<Connection, Reason> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|kept| kept.close_reason().is_none()) {
            return Ok(connection.clone());
        }
        let dialled = timeout(within, self.endpoint.connect(self.addr.clone(), BLOBS_ALPN)).await;
        let connection = match dialled {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(Reason::Unreachable(error.to_string())),
            Err(_) => return Err(Reason::Unreachable(format!("no answer within {within:?}"))),
        };
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// Ends the connection that is kept, for a reason that the peer is told.
    pub(super) async fn disconnect(&self, why: &[u8]) {
        if let Some(connection) = self.connection.lock().await.take() {
            connection.close(VarInt::from_u32(1), why);
        }
    }
}
