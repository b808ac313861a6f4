# All programs of the crate. The static package set calls this, so the target is musl and the
# programs need nothing at run time.
{
  lib,
  rustPlatform,
  commit,
}:
let
  crate = (lib.importTOML ../Cargo.toml).package;
in
rustPlatform.buildRustPackage (finalAttrs: {
  pname = crate.name;
  inherit (crate) version;

  # Only the files that the build reads, so that a change of another file rebuilds nothing.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../build.rs
      ../deploy
      ../docs
      ../fuzz/corpus
      ../messenger/proto
      ../src
      ../tests
    ];
  };
  # The lock file has the hashes of all dependencies, so there is no second hash to update.
  cargoLock.lockFile = ../Cargo.lock;

  env.MESSENGER_COMMIT = commit;

  # The tests run on the musl target. They are not optimised, because `lto = "fat"` would take a
  # minute to link each of them.
  checkType = "debug";

  # nixpkgs turns Cargo's `strip` off and strips only debug information; this strips all symbols.
  stripAllList = [ "bin" ];

  # The build fails if the result refers to a store path. So each file is a complete image.
  allowedReferences = [ ];

  # The acceptance tests as a program, for the service `tests` in docker-compose.yml.
  passthru.acceptance = finalAttrs.finalPackage.overrideAttrs {
    pname = "${crate.name}-acceptance";
    cargoBuildFlags = [
      "--test"
      "acceptance"
    ];
    doCheck = false;
    # Cargo leaves a test among its intermediate files, with a hash in its name.
    installPhase = ''
      runHook preInstall
      test=$(find target/*/release/deps -name 'acceptance-*' -type f -executable)
      install -D "$test" $out/bin/messenger-acceptance
      runHook postInstall
    '';
  };

  meta = {
    inherit (crate) description;
    license = with lib.licenses; [
      mit
      asl20
    ];
    mainProgram = "messenger";
    platforms = lib.platforms.linux;
  };
})
