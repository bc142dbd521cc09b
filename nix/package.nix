# `withCandle = false` builds without local inference: smaller, and built in a fraction of the time. `withCuda` builds for
# NVIDIA's GPUs; what runs in a build comes from `plain` then, because a program that is linked to the driver does not start
# where there is none. `nix flake check` evaluates that one; nobody has built it yet.
{
  lib,
  rustPlatform,
  runCommand,
  cargo,
  clippy,
  rustfmt,
  versionCheckHook,
  cudaPackages,
  autoAddDriverRunpath,
  withCandle ? true,
  withCuda ? false,
  # The oldest GPUs that it runs on, without a dot: bfloat16 begins with 8.0.
  cudaCapability ? "80",
  plain ? null,
  revision ? "",
}:
let
  root = ../.;
  manifest = (lib.importTOML ../Cargo.toml).package;
  base = {
    inherit (manifest) version;
    # Not what only Nix and the scripts read: a change there builds nothing anew.
    src = lib.fileset.toSource {
      inherit root;
      fileset = lib.fileset.unions (
        map (name: root + "/${name}") [
          "Cargo.lock"
          "Cargo.toml"
          "assets"
          "benches/kernels.rs"
          "build.rs"
          "clippy.toml"
          "config.example.toml"
          "docs/configuration.md"
          "docs/models.md"
          "nixos-module/reference.json"
          "openapi"
          "rustfmt.toml"
          "src"
        ]
        ++ tests
      );
    };
    cargoLock.lockFile = ../Cargo.lock;
    buildNoDefaultFeatures = !withCandle;
    buildFeatures = lib.optionals withCuda [ "cuda" ];
    nativeBuildInputs = lib.optionals withCuda [
      cudaPackages.cuda_nvcc
      autoAddDriverRunpath
    ];
    # What candle's kernels are compiled with (CUDA 13 has renamed it), and the libraries that it links.
    buildInputs = lib.optionals withCuda [
      (cudaPackages.cccl or cudaPackages.cuda_cccl)
      cudaPackages.cuda_cudart
      cudaPackages.cuda_nvrtc
      cudaPackages.libcublas
      cudaPackages.libcurand
    ];
    # `sconce --version` tells the revision. Where it is built is no part of the program.
    preBuild = ''
      export SCONCE_REVISION=${revision}
      export RUSTFLAGS="''${RUSTFLAGS:-} --remap-path-prefix=$NIX_BUILD_TOP=/build ''${CARGO_HOME:+--remap-path-prefix=$CARGO_HOME=/cargo}"
    ''
    + lib.optionalString withCuda ''
      export CUDA_COMPUTE_CAP=${cudaCapability}
    '';
  };
  # Rust's and what they read; the other folders there are for scripts.
  tests =
    let
      entries = builtins.readDir ../tests;
      rust =
        name:
        entries.${name} == "regular" && lib.hasSuffix ".rs" name
        || builtins.pathExists (root + "/tests/${name}/main.rs")
        || builtins.elem name [
          "common"
          "fixtures"
          "http_support"
        ];
    in
    map (name: root + "/tests/${name}") (builtins.filter rust (builtins.attrNames entries));
in
rustPlatform.buildRustPackage (
  base
  // {
    pname =
      if withCuda then
        "sconce-cuda"
      else if withCandle then
        "sconce"
      else
        "sconce-proxy";
    # The library's own tests, and that what is generated is fresh. Each further test program takes as long to link as
    # the daemon itself; `cargo test` in a checkout runs them all.
    cargoTestFlags = [ "--lib" ] ++ lib.optionals withCandle [ "--test" "config" ];

    postInstall =
      if withCuda then
        "cp -r ${plain}/share $out/share"
      else
        ''
          $out/bin/sconce man | install -D -m644 /dev/stdin $out/share/man/man1/sconce.1
          $out/bin/sconce completions bash | install -D -m644 /dev/stdin $out/share/bash-completion/completions/sconce
          $out/bin/sconce completions zsh | install -D -m644 /dev/stdin $out/share/zsh/site-functions/_sconce
          $out/bin/sconce completions fish | install -D -m644 /dev/stdin $out/share/fish/vendor_completions.d/sconce.fish
          install -D -m644 openapi/openapi.json $out/share/sconce/openapi.json
        '';

    nativeInstallCheckInputs = [ versionCheckHook ];
    doCheck = !withCuda;
    doInstallCheck = !withCuda;

    passthru = {
      # It does not start in a build.
      needsDriver = withCuda;
      clippy = rustPlatform.buildRustPackage (
        base
        // {
          pname = "sconce-clippy";
          nativeBuildInputs = base.nativeBuildInputs ++ [ clippy ];
          buildPhase = ''
            cargo clippy --offline --all-targets -- -D warnings
          '';
          doCheck = false;
          installPhase = ''
            touch $out
          '';
        }
      );
      fmt =
        runCommand "sconce-fmt"
          {
            inherit (base) src;
            nativeBuildInputs = [
              cargo
              rustfmt
            ];
          }
          ''
            cd $src
            cargo fmt --check
            touch $out
          '';
    };

    meta = {
      inherit (manifest) description;
      license = [
        lib.licenses.mit
        lib.licenses.asl20
      ];
      mainProgram = "sconce";
      platforms = lib.platforms.linux;
    };
  }
)
