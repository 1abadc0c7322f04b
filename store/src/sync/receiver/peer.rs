//! A peer to fetch from: an address that is dialled when it is needed, connections that are kept, and
//! the LAN path where the peer offers one.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use iroh::{
    Endpoint, EndpointAddr, EndpointId,
    endpoint::{Connection, VarInt},
};
use tokio::{sync::Mutex, time::timeout};

use crate::sync::{
    endpoint::{BLOBS_ALPN, Net},
    lan::{LanDialler, client::LanLink},
};

use super::{FetchOptions, Have, Reason, link::Link};

/// A peer that speaks `/iroh-bytes/4`. Clones share its connections.
#[derive(Clone)]
pub struct Peer {
    endpoint: Endpoint,
    addr: EndpointAddr,
    have: Option<Arc<Have>>,
    connections: Arc<Mutex<Vec<Connection>>>,
    lan: Option<Arc<Mutex<Lan>>>,
    /// Why the LAN path is not used.
    no_lan: Arc<OnceLock<String>>,
}

/// The LAN path to a peer.
#[derive(Debug)]
enum Lan {
    /// Not asked for yet.
    Untried(LanDialler),
    /// In use.
    Open(LanLink),
    /// Not to be had, or broken.
    Off,
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
            connections: Arc::default(),
            lan: None,
            no_lan: Arc::default(),
        }
    }

    /// The same peer, which is asked over the LAN path where it offers one.
    #[must_use]
    pub fn over_lan(mut self, dialler: LanDialler) -> Self {
        self.lan = Some(Arc::new(Mutex::new(Lan::Untried(dialler))));
        self
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

    /// The LAN path while there is one, else the connection.
    pub(super) async fn link(&self, options: &FetchOptions) -> Result<Link, Reason> {
        if let Some(lan) = &self.lan {
            let mut lan = lan.lock().await;
            if let Lan::Untried(dialler) = &*lan {
                *lan = match dialler.open(options.streams).await {
                    Ok(link) => Lan::Open(link),
                    Err(why) => {
                        tracing::debug!(peer = %self.id().fmt_short(), why, "no LAN path");
                        self.no_lan.set(why).ok();
                        Lan::Off
                    }
                };
            }
            if let Lan::Open(link) = &*lan {
                return Ok(Link::Lan(link.clone()));
            }
        }
        self.connect(options.connect).await.map(Link::Quic)
    }

    /// Notes that the LAN path broke: from now on the connection is used.
    pub(super) async fn lan_is_off(&self, why: String) {
        let Some(lan) = &self.lan else { return };
        if let Lan::Open(link) = std::mem::replace(&mut *lan.lock().await, Lan::Off) {
            tracing::debug!(peer = %self.id().fmt_short(), why, "the LAN path broke");
            link.broke(why.clone());
            self.no_lan.set(why).ok();
        }
    }

    /// Why the LAN path is not used, if it was wanted.
    pub(super) fn why_no_lan(&self) -> Option<String> {
        self.no_lan.get().cloned()
    }

    /// The first connection that is kept, or a new one.
    pub(super) async fn connect(&self, within: Duration) -> Result<Connection, Reason> {
        self.connection(0, within).await
    }

    /// One connection of several, each of which is driven by a thread of its own: the `number`th that is kept,
    /// or a new one.
    pub(super) async fn connection(
        &self,
        number: usize,
        within: Duration,
    ) -> Result<Connection, Reason> {
        let mut kept = self.connections.lock().await;
        kept.retain(|kept| kept.close_reason().is_none());
        if let Some(connection) = kept.get(number) {
            return Ok(connection.clone());
        }
        let dialled = timeout(within, self.endpoint.connect(self.addr.clone(), BLOBS_ALPN)).await;
        let connection = match dialled {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(Reason::Unreachable(error.to_string())),
            Err(_) => return Err(Reason::Unreachable(format!("no answer within {within:?}"))),
        };
        kept.push(connection.clone());
        Ok(connection)
    }

    /// How many connections are kept.
    #[cfg(test)]
    pub(in crate::sync) async fn connections(&self) -> usize {
        self.connections.lock().await.len()
    }

    /// Ends the connections that are kept, for a reason that the peer is told.
    pub(super) async fn disconnect(&self, why: &[u8]) {
        self.lan_is_off(String::from_utf8_lossy(why).into_owned())
            .await;
        for connection in self.connections.lock().await.drain(..) {
            connection.close(VarInt::from_u32(1), why);
        }
    }
}
