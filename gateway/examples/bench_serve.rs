//! temporary
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    missing_docs
)]
#[path = "../../node/tests/common/published.rs"]
#[allow(dead_code)]
mod published;
use lode_gateway::{
    ServeOptions,
    control::{Backend, Run},
    serve,
};
use lode_node::{EventSink, command::Command, read::Reads};
use published::{Held, Published, noise};
struct Home(Reads);
impl Backend for Home {
    fn run(&self, _: Command, _: EventSink) -> Run<'_> {
        unreachable!()
    }
    fn reads(&self) -> &Reads {
        &self.0
    }
}
#[tokio::main]
async fn main() {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let mut home = Published::new(&folder);
    let big = noise(1, 1 << 30);
    let files: [(&str, Held, &[u8]); 2] = [
        ("whole", Held::Whole, &big),
        ("small.json", Held::Pack, b"{}"),
    ];
    home.push("m", &files, &[], &["heads/main"]);
    home.push(
        "o",
        &[("outside", Held::Outside, &noise(2, 1 << 30))],
        &[],
        &["heads/main"],
    );
    std::fs::write(folder.join("plain"), &big).unwrap();
    drop(big);
    let options = ServeOptions {
        http: Some("127.0.0.1:7171".parse().unwrap()),
        socket: folder.join("control.sock"),
    };
    let running = serve(
        Home(Reads::new(home.store.clone())),
        options,
        Default::default(),
    )
    .await
    .unwrap();
    println!("ready");
    running.stopped().await;
}
