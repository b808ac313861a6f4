//! Compiles the messenger's proto for the peers.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../messenger/proto/messenger.proto");
    let descriptors = protox::compile(["messenger.proto"], ["../messenger/proto"])?;
    tonic_prost_build::configure().build_client(false).compile_fds(descriptors)?;
    Ok(())
}
