//! Writes the small models of tests/models to a folder: `models FOLDER`. For golden/llama-quantize.py.

#[path = "../tests/models/mod.rs"]
mod models;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).unwrap_or_default();
    let folder = std::path::Path::new(&folder);
    for (name, file) in models::models() {
        std::fs::write(folder.join(format!("{name}.gguf")), file.bytes())?;
    }
    Ok(())
}
