//! Imports a file into an iroh-blobs `FsStore`, as a peer of `lode push`: by reference, or as a copy.
//!
//! It waits until the store's database has committed; iroh-blobs does not sync the data itself.

use std::path::PathBuf;

use clap::Parser;
use iroh_blobs::{
    BlobFormat,
    api::blobs::{AddPathOptions, ImportMode},
    store::fs::FsStore,
};

#[derive(Parser)]
struct Arguments {
    /// Folder of the store; it must not exist yet.
    store: PathBuf,
    /// The file.
    file: PathBuf,
    /// Copies the file into the store.
    #[arg(long)]
    copy: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let store = FsStore::load(&arguments.store).await?;
    let options = AddPathOptions {
        path: std::path::absolute(&arguments.file)?,
        format: BlobFormat::Raw,
        mode: if arguments.copy {
            ImportMode::Copy
        } else {
            ImportMode::TryReference
        },
    };
    let tag = store.blobs().add_path_with_opts(options).await?;
    store.sync_db().await?;
    println!("{}", tag.hash);
    store.shutdown().await?;
    Ok(())
}
