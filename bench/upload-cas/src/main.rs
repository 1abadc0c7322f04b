//! Serves the reference storage of Xet from a folder: `upload-cas FOLDER PORT`.

use xet_client::cas_client::{LocalServer, LocalServerConfig};
use xet_runtime::core::XetContext;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: upload-cas FOLDER PORT";
    let config = LocalServerConfig {
        data_directory: arguments.next().ok_or(usage)?.into(),
        port: arguments.next().ok_or(usage)?.parse()?,
        host: "127.0.0.1".to_owned(),
        in_memory: false,
    };
    LocalServer::new(XetContext::default()?, config).await?.run().await?;
    Ok(())
}
