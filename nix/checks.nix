# `nix flake check`. Every check passes in Nix's sandbox: no network but loopback, nothing installed.
{
  lib,
  binutils,
  callPackage,
  clippy,
  rustfmt,
  curl,
  grpcurl,
  jq,
  runCommand,
  packages,
}:
let
  inherit (packages) messenger;
  check = name: tools: runCommand "messenger-check-${name}" { nativeBuildInputs = tools; };

  image =
    name: program:
    check "${name}-image" [ jq ] ''
      mkdir image layer
      tar --extract --directory image --file ${packages."${name}-image"}
      field() { jq --exit-status --raw-output "$1" "$2"; }

      [ "$(field '.[0].RepoTags[]' image/manifest.json)" = ${program}:latest ]
      [ "$(field '.[0].Layers | length' image/manifest.json)" = 1 ]
      config=image/$(field '.[0].Config' image/manifest.json)
      [ "$(field '.config.User' "$config")" = 65534:65534 ]
      [ "$(field '.config.Entrypoint[]' "$config")" = /${program} ]

      tar --extract --directory layer --file image/$(field '.[0].Layers[0]' image/manifest.json)
      files=$(find layer -not -type d)
      [ "$files" = layer/${program} ] || { echo "more than the program in the image: $files"; exit 1; }
      [ "$(stat --format=%s layer/${program})" -lt 8000000 ]
      touch $out
    '';
in
{
  # Building it runs all tests, on musl.
  inherit messenger;

  # Against glibc: clippy only finds its own platform's standard library, and the code is the same for both.
  clippy = (callPackage ./package.nix { commit = "unknown"; }).overrideAttrs (old: {
    pname = "messenger-check-clippy";
    nativeBuildInputs = old.nativeBuildInputs ++ [ clippy ];
    # Clippy's own settings, which the package does not need.
    env = old.env // {
      CLIPPY_CONF_DIR = "${lib.fileset.toSource {
        root = ../.;
        fileset = ../clippy.toml;
      }}";
    };
    buildPhase = "cargo clippy --offline --all-targets -- --deny warnings";
    doCheck = false;
    installPhase = "touch $out";
  });

  rustfmt = check "rustfmt" [ rustfmt ] ''
    cd ${
      lib.fileset.toSource {
        root = ../.;
        fileset = lib.fileset.union ../rustfmt.toml (lib.fileset.fileFilter (file: file.hasExt "rs") ../.);
      }
    }
    find . -name '*.rs' -exec rustfmt --check --edition ${(lib.importTOML ../Cargo.toml).package.edition} {} +
    touch $out
  '';

  static = check "static" [ binutils ] ''
    for program in ${messenger}/bin/* ${messenger.acceptance}/bin/*; do
      echo "$program"
      if readelf --wide --program-headers "$program" | grep INTERP; then exit 1; fi
      if readelf --wide --dynamic "$program" | grep NEEDED; then exit 1; fi
      if grep --text --only-matching '/nix/store/[[:alnum:]._-]*' "$program"; then exit 1; fi
    done
    touch $out
  '';

  server-image = image "server" "messenger-server";
  client-image = image "client" "messenger-client";

  # The assignment's own commands against the real programs, and our acceptance tests.
  acceptance = check "acceptance" [ curl grpcurl jq ] ''
    # A program left behind would keep the check from ending.
    trap 'kill $(jobs -p)' EXIT

    export MESSENGER_SERVER_ADDR=localhost:51075
    ${messenger}/bin/messenger-server &
    ${messenger}/bin/messenger-client &
    MESSENGER_HTTP_PORT=8081 ${messenger}/bin/messenger-client &

    curl="curl --silent --show-error --fail --retry 50 --retry-connrefused --retry-delay 1"
    # grpcurl is shown the proto as in a checkout.
    mkdir messenger
    ln --symbolic ${../messenger/proto} messenger/proto
    grpc="grpcurl -proto messenger/proto/messenger.proto -plaintext"

    # A client answers a send when its own stream is open; from then on it misses nothing.
    for port in 8080 8081; do
      $curl -X POST localhost:$port/sendMessage -d '{"author": "probe", "text": ""}'
    done

    # Whatever one person sends, both get.
    $curl -X POST localhost:8080/sendMessage -d '{"author": "alice", "text": "hey"}' | jq --exit-status .sendTime
    $grpc -d '{"author": "bob", "text": "hi"}' localhost:51075 mes_grpc.MessengerServer/SendMessage |
      jq --exit-status .sendTime
    sleep 1
    for port in 8080 8081; do
      $curl -X POST localhost:$port/getAndFlushMessages | tee flushed
      [ "$(jq --compact-output 'map(select(.author != "probe").text)' flushed)" = '["hey","hi"]' ]
    done
    grpcurl -plaintext localhost:51075 list | grep --line-regexp mes_grpc.MessengerServer

    export MESSENGER_TEST_SERVER_ADDR=localhost:51075
    export MESSENGER_TEST_CLIENT1_ADDR=localhost:8080
    export MESSENGER_TEST_CLIENT2_ADDR=localhost:8081
    ${messenger.acceptance}/bin/messenger-acceptance
    touch $out
  '';
}
