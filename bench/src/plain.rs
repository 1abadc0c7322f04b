//! iroh as it is, for what Lode is compared with: endpoints on loopback, and streams of ranges that nobody verifies.

use iroh::{
    Endpoint,
    endpoint::{BindError, PortmapperConfig, QuicTransportConfig, VarInt, presets},
};
use lode_store::sync::limits::{SEND_WINDOW_BYTES, STREAM_WINDOW_BYTES};

/// The protocol of plain streams: where a range begins and ends, as two little-endian `u64`, then its bytes.
pub const RAW: &[u8] = b"/lode-bench/raw";

/// The windows of Lode's own endpoints.
pub fn windows() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .build()
}

/// An endpoint on a port of loopback that answers [`RAW`], without relays and lookups.
///
/// # Errors
/// No port can be bound.
pub async fn endpoint(transport: QuicTransportConfig) -> Result<Endpoint, BindError> {
    Endpoint::builder(presets::Minimal)
        .portmapper_config(PortmapperConfig::Disabled)
        .transport_config(transport)
        .alpns(vec![RAW.to_vec()])
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .expect("an address of loopback is one to bind")
        .bind()
        .await
}
