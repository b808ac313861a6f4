# `nix develop`: what this project is written, tested and tried by hand with.
{
  mkShell,
  cargo,
  clippy,
  curl,
  grpcurl,
  jq,
  protobuf,
  python3,
  rust-analyzer,
  rustPlatform,
  rustc,
  rustfmt,
}:
mkShell {
  packages = [
    cargo
    clippy
    rust-analyzer
    rustc
    rustfmt
    # The other implementations of the interface that tests/it/foreign.rs runs against.
    (python3.withPackages (python: [
      python.grpcio
      python.grpcio-tools
    ]))
    # For trying the interfaces by hand. protoc is for other languages' clients; the build does without it.
    curl
    grpcurl
    jq
    protobuf
  ];
  # The sources of the standard library, for rust-analyzer.
  RUST_SRC_PATH = rustPlatform.rustLibSrc;
}
