# All programs of the crate. Called from the static set, so the target is musl and the results need nothing at run time.
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

  # Only what the build reads, so that nothing else can change the result.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../benches/startup.rs
      ../build.rs
      ../deploy
      ../docs
      ../fuzz/corpus
      ../messenger/proto
      ../src
      ../tests
    ];
  };
  # The lock file has the hashes of all dependencies already; there is no second one here to keep up to date.
  cargoLock.lockFile = ../Cargo.lock;

  env.MESSENGER_COMMIT = commit;

  # The tests run on the musl target itself. Unoptimised, because `lto = "fat"` would link each of them for a minute.
  checkType = "debug";

  # nixpkgs turns Cargo's `strip` off and strips only debug information itself; this takes the symbols as well.
  stripAllList = [ "bin" ];

  # No store path may stay in the result, or the build fails: one such file is then a complete image.
  allowedReferences = [ ];

  # The acceptance tests as a program of their own, for the service `tests` in docker-compose.yml.
  passthru.acceptance = finalAttrs.finalPackage.overrideAttrs {
    pname = "${crate.name}-acceptance";
    cargoBuildFlags = [
      "--test"
      "acceptance"
    ];
    doCheck = false;
    # Cargo leaves a test among the intermediate files, under a name with a hash.
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
