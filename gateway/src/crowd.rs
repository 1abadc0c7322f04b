//! How many connections each address has, so that one cannot take the places of all others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{limits::ADDRESS_CONNECTIONS_MAX, pace::network_of};

/// Connections by address. It knows no more addresses than there are connections.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    crowd: Arc<Crowd>,
    network: IpAddr,
}

impl Crowd {
    /// A place for one more connection of `peer`; nothing when it has as many as it may. Programs of this
    /// machine are not told apart by their address, nor are those behind a proxy on it: they are not counted.
    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Option<Guest>> {
        let network = network_of(peer);
        if network.is_loopback() {
            return Some(None);
        }
        let mut counts = self.counts();
        let count = counts.entry(network).or_default();
        if *count >= ADDRESS_CONNECTIONS_MAX {
            return None;
        }
        *count += 1;
        Some(Some(Guest {
            crowd: Arc::clone(self),
            network,
        }))
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts();
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_others_have_theirs() {
        let crowd = Arc::new(Crowd::default());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut guests: Vec<_> = (0..ADDRESS_CONNECTIONS_MAX)
            .map(|_| crowd.enter(ip("10.0.0.1")).unwrap())
            .collect();
        assert!(crowd.enter(ip("10.0.0.1")).is_none());
        assert!(crowd.enter(ip("::ffff:10.0.0.1")).is_none());
        assert!(crowd.enter(ip("10.0.0.2")).is_some());
        guests.pop();
        assert!(crowd.enter(ip("10.0.0.1")).is_some());
        guests.clear();
        assert!(crowd.counts().is_empty(), "who left is forgotten");
    }

    #[test]
    fn programs_of_this_machine_are_not_counted() {
        let crowd = Arc::new(Crowd::default());
        for _ in 0..=ADDRESS_CONNECTIONS_MAX {
            assert!(crowd.enter(IpAddr::from([127, 0, 0, 1])).unwrap().is_none());
        }
        assert!(crowd.counts().is_empty());
    }
}
