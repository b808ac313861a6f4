# A package and an image for each program. An image is one layer with one file, for `docker load`.
{
  lib,
  runCommand,
  dockerTools,
  messenger,
  commit,
}:
let
  crate = (lib.importTOML ../Cargo.toml).package;
  second = 1000000000; # Docker counts in nanoseconds

  # A package with only one of the programs.
  package =
    program:
    runCommand "${program}-${crate.version}"
      {
        allowedReferences = [ ];
        meta = messenger.meta // {
          mainProgram = program;
        };
      }
      ''
        install -D -m 0555 ${messenger}/bin/${program} $out/bin/${program}
      '';

  # messenger/*.dockerfile build the same images from staged programs; keep both alike.
  image =
    {
      name,
      program,
      config ? { },
    }:
    dockerTools.buildImage {
      inherit name;
      # docker-compose.yml needs a fixed tag; without one the tag would be a hash.
      tag = "latest";
      # A copy of the file. A link, or a store path as the entry point, would bring the store along.
      copyToRoot = runCommand "${name}-root" { allowedReferences = [ ]; } ''
        install -D -m 0555 ${program} $out/$(basename ${program})
      '';
      config = {
        Entrypoint = [ "/${baseNameOf program}" ];
        # The number of nobody: there is no /etc/passwd to look up a name.
        User = "65534:65534";
      }
      // config;
    };

  service =
    {
      program,
      description,
      port,
    }:
    image {
      name = program;
      program = lib.getExe (package program);
      config = {
        ExposedPorts."${toString port}/tcp" = { };
        # The program checks itself, because the image has no shell and no curl.
        Healthcheck = {
          Test = [
            "CMD"
            "/${program}"
            "--health-check"
          ];
          Interval = 3 * second;
          Timeout = 2 * second;
          StartPeriod = 10 * second;
          Retries = 3;
        };
        Labels = {
          "org.opencontainers.image.title" = program;
          "org.opencontainers.image.description" = description;
          "org.opencontainers.image.version" = crate.version;
          "org.opencontainers.image.revision" = commit;
          "org.opencontainers.image.licenses" = crate.license;
        };
      };
    };
in
{
  server = package "messenger-server";
  client = package "messenger-client";

  server-image = service {
    program = "messenger-server";
    description = "One-room messenger: the gRPC server";
    port = 51075;
  };
  client-image = service {
    program = "messenger-client";
    description = "One-room messenger: the client with its HTTP interface";
    port = 8080;
  };
  tests-image = image {
    name = "messenger-tests";
    program = "${messenger.acceptance}/bin/messenger-acceptance";
  };
}
