//! Which addresses count as those of one's own network.

use std::net::{IpAddr, SocketAddr};

use iroh::{TransportAddr, endpoint::Connection};

/// Whether `ip` is a loopback, private (RFC 1918), unique local or link-local address.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The peer's end of the path that carries `connection`, if it is a private address and no relay.
pub(crate) fn private_peer(connection: &Connection) -> Option<SocketAddr> {
    let paths = connection.paths();
    let selected = paths.iter().find(|path| path.is_selected())?;
    match selected.remote_addr() {
        TransportAddr::Ip(addr) if is_private(addr.ip()) => Some(*addr),
        _ => None,
    }
}

/// The private addresses of the peer on any open path of `connection`.
pub(crate) fn private_addresses(connection: &Connection) -> Vec<IpAddr> {
    let paths = connection.paths();
    let private = paths.iter().filter_map(|path| match path.remote_addr() {
        TransportAddr::Ip(addr) if is_private(addr.ip()) => Some(addr.ip().to_canonical()),
        _ => None,
    });
    private.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_no_router_passes_on_are_private() {
        for private in [
            "127.0.0.1",
            "127.255.0.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.4.4",
            "169.254.1.1",
            "::1",
            "fd00::7",
            "fc00::1",
            "fe80::1",
            "::ffff:10.1.2.3",
        ] {
            assert!(
                is_private(private.parse().expect("an address")),
                "{private}"
            );
        }
        for public in [
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.1",
            "192.169.0.1",
            "11.0.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::",
            "2001:db8::1",
            "fec0::1",
            "ff02::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_private(public.parse().expect("an address")), "{public}");
        }
    }
}
