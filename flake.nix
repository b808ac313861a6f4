{
  description = "A one-room messenger: gRPC server, HTTP client, images of one static program each";

  # The only input: for one crate without C code, the Rust tools of nixpkgs are enough.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      eachSystem = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      pkgsFor = nixpkgs.legacyPackages;
      # For `--version` and the images' labels. An uncommitted tree is named "…-dirty".
      commit = self.rev or self.dirtyRev or "unknown";
    in
    {
      packages = eachSystem (
        system:
        let
          pkgs = pkgsFor.${system};
          # Released programs come from the static package set (musl), tools from the ordinary one.
          messenger = pkgs.pkgsStatic.callPackage ./nix/package.nix { inherit commit; };
          images = pkgs.callPackage ./nix/image.nix { inherit messenger commit; };
        in
        {
          inherit messenger;
          inherit (images)
            server
            client
            server-image
            client-image
            tests-image
            ;
          default = messenger;
        }
      );

      apps = eachSystem (
        system:
        let
          inherit (self.packages.${system}) messenger;
          stage = pkgsFor.${system}.writeShellApplication {
            name = "messenger-stage";
            runtimeInputs = [ pkgsFor.${system}.binutils ]; # readelf
            # The script of the checkout: the flake's copy is in the read-only store.
            text = ''
              [ -x messenger/stage ] || { echo "run this at the root of the checkout" >&2; exit 1; }
              exec messenger/stage --from ${messenger}/bin/messenger-{server,client} ${messenger.acceptance}/bin/*
            '';
          };
        in
        {
          default = {
            type = "app";
            program = lib.getExe messenger;
            meta.description = "The whole chat in one process";
          };
          stage = {
            type = "app";
            program = lib.getExe stage;
            meta.description = "Put the static programs into messenger/bin/ for the dockerfiles";
          };
        }
      );

      checks = eachSystem (
        system:
        # callPackage adds functions to the set (`override`), but a check must be a derivation.
        lib.filterAttrs (_: lib.isDerivation) (
          pkgsFor.${system}.callPackage ./nix/checks.nix { packages = self.packages.${system}; }
        )
      );

      devShells = eachSystem (system: {
        default = pkgsFor.${system}.callPackage ./nix/shell.nix { };
      });

      formatter = eachSystem (system: pkgsFor.${system}.nixfmt-tree);
    };
}
