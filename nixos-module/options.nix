# What one daemon is told. `services.sconce` is one, each of `services.sconce.instances` another.
{
  lib,
  settings,
  defaultPackage,
}:
let
  inherit (lib) mkOption types;
  hub = import ./hub.nix;
  secret = "This reaches the service as a systemd credential, so that root alone need be able to read it. The Nix store, which everybody can read, is refused.";
in
{
  package = mkOption (
    {
      type = types.package;
      description = "The package. The flake's `sconce-proxy` is one without local inference, `sconce-cuda` one for NVIDIA's GPUs.";
      defaultText = lib.literalMD "the flake's `sconce`; of an instance, that of `services.sconce`";
    }
    // defaultPackage
  );

  settings = mkOption {
    type = types.submodule settings.module;
    default = { };
    description = ''
      The configuration. Its keys, from [the reference](configuration.md), are typed; others are taken too, and everything
      is checked when the system is built. A key that is not set is not written, so that the daemon's default applies.
    '';
  };

  models = mkOption {
    type = types.attrsOf (types.either types.path (types.strMatching hub.id));
    default = { };
    example = {
      my-model = "/srv/models/my-model";
      qwen = "Qwen/Qwen2.5-0.5B-Instruct";
    };
    description = ''
      Local models by their ids: directories in Hugging Face's layout, GGUF files, or ids on the Hugging Face hub
      (`org/name`, `org/name@revision`, `org/name:file.gguf`), which are downloaded into the service's cache. Short for
      `settings.models.<id> = { backend = "candle"; candle.source = …; }`.
    '';
  };

  apiKeyFiles = mkOption {
    type = types.listOf types.path;
    default = [ ];
    example = [ "/run/agenix/sconce-keys" ];
    description = "Files of API keys, one a line, `key` or `name:key`. ${secret}";
  };

  upstreamApiKeyFile = mkOption {
    type = types.nullOr types.path;
    default = null;
    example = "/run/agenix/upstream";
    description = "File with the API key for the upstreams that have none of their own. ${secret}";
  };

  upstreamApiKeyFiles = mkOption {
    type = types.attrsOf types.path;
    default = { };
    example = {
      gpu1 = "/run/agenix/gpu1";
    };
    description = "Files with API keys, each for the upstreams of its name in `settings`. ${secret}";
  };

  hfTokenFile = mkOption {
    type = types.nullOr types.path;
    default = null;
    example = "/run/agenix/hf-token";
    description = "File with the token for gated and private models of the Hugging Face hub. ${secret}";
  };

  environmentFile = mkOption {
    type = types.nullOr types.path;
    default = null;
    example = "/run/agenix/sconce.env";
    description = ''
      File of `SCONCE_*` variables, which are stronger than `settings` and are not checked when the system is built, and
      of the Hugging Face hub's, such as `HF_ENDPOINT`. The Nix store is refused.
    '';
  };

  checkConfig = mkOption {
    type = types.bool;
    default = true;
    description = ''
      Whether the configuration is checked when the system is built. Where the package is built for another platform than
      the one that builds, or for a GPU, whose driver a build has not, it cannot be.
    '';
  };

  gpu = mkOption {
    type = types.bool;
    default = false;
    description = ''
      Whether the daemon sees NVIDIA's GPUs, for `settings.candle.device = "cuda"` and the package `sconce-cuda`. It sees
      no other devices; the rest of what the unit hides stays hidden.
    '';
  };

  openFirewall = mkOption {
    type = types.bool;
    default = false;
    description = "Whether to open the TCP ports of `settings.server.listen` that others can reach.";
  };

  socketActivation = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether systemd listens on `settings.server.listen`, whose hosts must then be numbers, and starts the daemon at the
        first connection. With `settings.server.exit_when_idle` it ends when nobody is there.
      '';
    };
    privateNetwork = mkOption {
      type = types.nullOr types.bool;
      default = null;
      defaultText = lib.literalMD "where neither the proxy backend nor a model of the Hugging Face hub, which connect, nor an `environmentFile` is set";
      description = "Whether to take the network away from the daemon, but for the connections that systemd accepts for it.";
    };
  };

  staticUser = mkOption {
    type = types.bool;
    default = false;
    description = ''
      Whether to make a user and a group that stay, named as the unit, for files that only the service may read. Otherwise
      they exist while it runs.
    '';
  };
}
