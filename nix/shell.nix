# `nix develop`: the tools to write, test and try this project.
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
    # The other implementation of the interface that tests/it/foreign.rs tests against.
    (python3.withPackages (python: [
      python.grpcio
      python.grpcio-tools
    ]))
    # To try the interfaces by hand. protoc is for clients in other languages; the build needs none.
    curl
    grpcurl
    jq
    protobuf
  ];
  # rust-analyzer needs the sources of the standard library.
  RUST_SRC_PATH = rustPlatform.rustLibSrc;
}
