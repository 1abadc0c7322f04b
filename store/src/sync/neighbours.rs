//! Nodes on the local network that say by multicast DNS that they speak Lode.
//!
//! Off unless asked for: it sends to the local network, and tells everybody there of this node. What is
//! heard is an address to dial and no more; whoever answers there proves its key.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_lite::StreamExt as _;
use iroh::{Endpoint, EndpointAddr, EndpointId};
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use tokio::{sync::watch, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::limits::NEIGHBOURS_MAX;

/// The service name: nodes of other programs on iroh are not asked.
const SERVICE: &str = "lode";

/// The nodes that were heard of and have not fallen silent.
#[derive(Debug, Clone)]
pub struct Neighbours {
    known: Arc<Mutex<HashMap<EndpointId, EndpointAddr>>>,
    heard: watch::Receiver<u64>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Neighbours {
    /// Begins to listen, and to tell of `endpoint`.
    ///
    /// # Errors
    /// When multicast is not to be had; the text says why.
    pub(super) fn start(endpoint: &Endpoint) -> Result<Self, String> {
        let builder = MdnsAddressLookup::builder().service_name(SERVICE);
        let mdns = builder
            .build(endpoint.id())
            .map_err(|error| error.to_string())?;
        let lookups = endpoint.address_lookup().map_err(|e| e.to_string())?;
        lookups.add(mdns.clone());
        let known: Arc<Mutex<HashMap<_, _>>> = Arc::default();
        let (tell, heard) = watch::channel(0);
        let table = Arc::clone(&known);
        let listen = async move {
            let mut events = mdns.subscribe().await;
            while let Some(event) = events.next().await {
                let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    DiscoveryEvent::Discovered { endpoint_info, .. } => {
                        let address = endpoint_info.into_endpoint_addr();
                        if table.len() < NEIGHBOURS_MAX || table.contains_key(&address.id) {
                            table.insert(address.id, address);
                        }
                    }
                    DiscoveryEvent::Expired { endpoint_id } => {
                        table.remove(&endpoint_id);
                    }
                    _ => {}
                }
                drop(table);
                tell.send_modify(|count| *count += 1);
            }
        };
        Ok(Self {
            known,
            heard,
            _task: Arc::new(AbortOnDropHandle::new(tokio::spawn(listen))),
        })
    }

    /// The nodes that are there. When none was heard of yet, waits for the first, but no longer than `within`.
    pub async fn known(&self, within: Duration) -> Vec<EndpointAddr> {
        let mut heard = self.heard.clone();
        let some = heard.wait_for(|count| *count > 0);
        timeout(within, some).await.ok();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }
}
