# `nix flake check`. Every check passes in Nix's sandbox, which has only the loopback network.
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
  # The build runs the tests on musl, except those whose tool is not in the sandbox.
  inherit messenger;

  # With glibc: clippy finds only the standard library of its own platform.
  clippy = (callPackage ./package.nix { commit = "unknown"; }).overrideAttrs (old: {
    pname = "messenger-check-clippy";
    nativeBuildInputs = old.nativeBuildInputs ++ [ clippy ];
    # The package itself does not need Clippy's settings.
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
    # A program that keeps running would keep the check from ending.
    trap 'kill $(jobs -p)' EXIT

    export MESSENGER_SERVER_ADDR=localhost:51075
    ${messenger}/bin/messenger-server &
    ${messenger}/bin/messenger-client &
    MESSENGER_HTTP_PORT=8081 ${messenger}/bin/messenger-client &

    curl="curl --silent --show-error --fail --retry 50 --retry-connrefused --retry-delay 1"
    # The same path to the proto file as in a checkout.
    mkdir messenger
    ln --symbolic ${../messenger/proto} messenger/proto
    grpc="grpcurl -proto messenger/proto/messenger.proto -plaintext"

    # A client answers a send when its own stream is open. After that it misses no message.
    for port in 8080 8081; do
      $curl -X POST localhost:$port/sendMessage -d '{"author": "probe", "text": ""}'
    done

    # Both clients get every message.
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
