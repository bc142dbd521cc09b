# Configurations of a machine, by name:
#   expect    what must hold of a good one: { "what" = true; }
#   message   part of the message that a bad one fails its evaluation with, as an assertion
#   mistake   part of the message of an option that is not known or of the wrong type
#   refused   part of what `sconce check-config` says of it when the system is built
{
  lib,
  settings,
  evaluate,
}:
let
  has = text: part: builtins.length (lib.splitString part text) > 1;
  line = unit: wanted: builtins.elem wanted (lib.splitString "\n" unit);
  unit = import ../../nixos-module/unit.nix { inherit lib; };
  shipped = unit ../../dist/systemd/sconce.service;
  service = machine: machine.config.systemd.services.sconce;
  sconce = it: { services.sconce = { enable = true; } // it; };
  source = machine: name: toString machine.config.environment.etc."sconce/${name}.toml".source;
in
{
  plain = {
    config = sconce { };
    expect =
      machine:
      let
        written = (service machine).serviceConfig;
        said = shipped.Service;
      in
      {
        "one unit" = builtins.attrNames machine.units == [ "sconce.service" ];
        "every directive that is shipped, and none else" =
          removeAttrs written [ "ExecStart" ] == removeAttrs said [ "ExecStart" ];
        "its rendered lines" = builtins.all (
          name: builtins.all (value: line machine.units."sconce.service" "${name}=${value}") (lib.toList said.${name})
        ) (builtins.filter (name: name != "ExecStart") (builtins.attrNames said));
        "StartLimitIntervalSec" = line machine.units."sconce.service" "StartLimitIntervalSec=0";
        "started at boot" = line machine.units."sconce.service" "WantedBy=multi-user.target";
        "its configuration" = has written.ExecStart "/bin/sconce --config /etc/sconce/sconce.toml";
        "restarted by one job" = !(service machine).stopIfChanged;
        "no port opened" = machine.firewall == [ ];
      };
  };

  off = {
    config.services.sconce = { };
    expect = machine: {
      "nothing" = machine.units == { } && machine.config.environment.etc == { };
    };
  };

  listening = {
    config = sconce {
      openFirewall = true;
      settings.server.listen = [
        "0.0.0.0:9000"
        "[::]:9000"
        "192.0.2.1:9001"
        "127.0.0.1:9002"
        "unix:/run/sconce/api.sock"
      ];
    };
    expect = machine: {
      "ports that others reach, once each" =
        machine.firewall == [
          9000
          9001
        ];
    };
  };

  credentials = {
    config = sconce {
      apiKeyFiles = [
        "/run/agenix/one"
        "/run/agenix/two"
      ];
      upstreamApiKeyFile = "/run/agenix/up";
      upstreamApiKeyFiles.gpu1 = "/run/agenix/gpu1";
      hfTokenFile = "/run/agenix/hf";
      environmentFile = "/run/agenix/env";
    };
    expect =
      machine:
      let
        text = machine.units."sconce.service";
      in
      {
        "first" = line text "LoadCredential=api-keys.1:/run/agenix/one";
        "second" = line text "LoadCredential=api-keys.2:/run/agenix/two";
        "upstream" = line text "LoadCredential=upstream-api-key:/run/agenix/up";
        "gpu1" = line text "LoadCredential=upstream-api-key.gpu1:/run/agenix/gpu1";
        "the hub's token" = line text "LoadCredential=hf-token:/run/agenix/hf";
        "environment" = line text "EnvironmentFile=/run/agenix/env";
      };
  };

  sockets = {
    config = sconce {
      socketActivation.enable = true;
      settings.server = {
        listen = [
          "127.0.0.1:8000"
          "[::1]:8000"
          "unix:/run/sconce.sock"
        ];
        exit_when_idle = "10min";
        unix_socket_mode = "0666";
      };
    };
    expect =
      machine:
      let
        text = machine.units."sconce.socket";
        started = machine.units."sconce.service";
      in
      {
        "addresses" = builtins.all (line text) [
          "ListenStream=127.0.0.1:8000"
          "ListenStream=[::1]:8000"
          "ListenStream=/run/sconce.sock"
        ];
        "mode" = line text "SocketMode=0666";
        "the socket at boot, the service not" =
          line text "WantedBy=sockets.target" && !(has started "WantedBy");
        "no network" = line started "PrivateNetwork=yes" && line started "Requires=sconce.socket";
        "only Unix sockets" =
          (service machine).serviceConfig.RestrictAddressFamilies == [
            ""
            "AF_UNIX"
          ];
      };
  };

  # The file may say that it is a proxy.
  socketsAndEnvironment = {
    config = sconce {
      socketActivation.enable = true;
      environmentFile = "/run/agenix/env";
    };
    expect = machine: {
      "a network" = !(has machine.units."sconce.service" "PrivateNetwork=yes");
    };
  };

  instances = {
    config.services.sconce.instances = {
      small.settings.server.listen = [ "127.0.0.1:8001" ];
      large = {
        staticUser = true;
        settings.server.listen = [ "127.0.0.1:8002" ];
      };
      off.enable = false;
    };
    expect =
      machine:
      let
        text = machine.units."sconce-small.service";
      in
      {
        "units" =
          builtins.attrNames machine.units == [
            "sconce-large.service"
            "sconce-small.service"
          ];
        "names" = builtins.all (line text) [
          "User=sconce-small"
          "StateDirectory=sconce-small"
          "CacheDirectory=sconce-small"
          "RuntimeDirectory=sconce-small"
          "WorkingDirectory=%S/sconce-small"
          "ImportCredential=sconce-small.api-keys:api-keys"
          "Environment=HF_HOME=%C/sconce-small/huggingface HF_TOKEN_PATH=%d/hf-token"
        ];
        "a configuration each" = source machine "sconce-small" != source machine "sconce-large";
        "a user of one" = builtins.attrNames machine.config.users.users == [ "sconce-large" ];
      };
  };

  models = {
    config = sconce {
      models = {
        "org/one" = "/srv/models/one";
        two = "/home/me/two.gguf";
      };
      settings.models.two.max_tokens = 100;
    };
    expect = machine: {
      "the one in a home is brought in" =
        (service machine).serviceConfig.BindReadOnlyPaths == [ "/home/me/two.gguf" ];
    };
  };

  # A model of the hub may have to be downloaded.
  hub = {
    config = sconce {
      models.qwen = "Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-q4_k_m.gguf";
      socketActivation.enable = true;
    };
    expect = machine: {
      "a network" = !(has machine.units."sconce.service" "PrivateNetwork=yes");
      "nothing to bring in" = !((service machine).serviceConfig ? BindReadOnlyPaths);
    };
  };
  hubById = {
    config = sconce {
      socketActivation.enable = true;
      settings = {
        backend = "candle";
        model_id = "org/name@v1";
      };
    };
    expect = machine: {
      "a network" = !(has machine.units."sconce.service" "PrivateNetwork=yes");
    };
  };
  localModels = {
    config = sconce {
      socketActivation.enable = true;
      models."org/name" = "/srv/models/name";
    };
    expect = machine: {
      "no network" = has machine.units."sconce.service" "PrivateNetwork=yes";
    };
  };

  gpu = {
    config = sconce { gpu = true; };
    expect =
      machine:
      let
        text = machine.units."sconce.service";
        changed = [
          "ExecStart"
          "PrivateDevices"
          "DeviceAllow"
          "SupplementaryGroups"
        ];
      in
      {
        "NVIDIA's devices" = line text "DeviceAllow=char-nvidia* rw" && line text "PrivateDevices=no";
        "and no others" = line text "DevicePolicy=closed";
        "its group" = line text "SupplementaryGroups=video";
        "all else as it is shipped" =
          removeAttrs (service machine).serviceConfig changed == removeAttrs shipped.Service changed;
      };
  };

  machinesOwn = {
    config = sconce { } // {
      systemd.services.sconce.serviceConfig = {
        WatchdogSec = "5min";
        MemoryMax = "16G";
      };
    };
    expect = machine: {
      "stronger without force" = line machine.units."sconce.service" "WatchdogSec=5min";
      "added" = line machine.units."sconce.service" "MemoryMax=16G";
    };
  };

  reloaded = {
    config = sconce {
      settings = {
        limits.max_concurrent_requests = 5;
        log.level = "debug";
        models.other.backend = "echo";
      };
    };
    expect =
      machine:
      let
        before = evaluate (sconce { });
      in
      {
        "the unit stays" = machine.units == before.units;
        "no restart" = (service machine).restartTriggers == (service before).restartTriggers;
        "but a reload" = (service machine).reloadTriggers != (service before).reloadTriggers;
      };
  };

  restarted = {
    config = sconce { settings.server.drain_timeout = "1min"; };
    expect = machine: {
      "a restart" =
        (service machine).restartTriggers != (service (evaluate (sconce { }))).restartTriggers;
    };
  };

  storedKey = {
    config = sconce { apiKeyFiles = [ ./cases.nix ]; };
    message = "services.sconce.apiKeyFiles: cases.nix is in the Nix store, which everybody can read";
  };
  storedUpstreamKey = {
    config = sconce { upstreamApiKeyFiles.gpu1 = "${builtins.storeDir}/key"; };
    message = "services.sconce.upstreamApiKeyFiles.gpu1: key is in the Nix store";
  };
  storedEnvironment = {
    config = sconce { environmentFile = ./cases.nix; };
    message = "services.sconce.environmentFile: cases.nix is in the Nix store";
  };
  storedToken = {
    config = sconce { hfTokenFile = "${builtins.storeDir}/token"; };
    message = "services.sconce.hfTokenFile: token is in the Nix store";
  };
  noSource = {
    config = sconce { models.one = "models/one/more"; };
    mistake = "services.sconce.models.one' is not of type";
  };
  writtenKey = {
    config = sconce { settings.auth.keys = [ "me:sk-1" ]; };
    message = "services.sconce.settings: auth.keys would be in the Nix store";
  };
  storedKeysFile = {
    config.services.sconce.instances.a.settings.auth.keys_file = "${builtins.storeDir}/keys";
    message = "services.sconce.instances.a.settings: auth.keys_file would be in the Nix store";
  };
  nothingToOpen = {
    config = sconce { openFirewall = true; };
    message = "services.sconce.openFirewall: nothing listens for others";
  };
  oneAddress = {
    config = sconce { instances.b = { }; };
    message = "sconce and sconce-b both listen on 127.0.0.1:8000";
  };
  hostName = {
    config = sconce {
      socketActivation.enable = true;
      settings.server.listen = [ "localhost:8000" ];
    };
    message = "systemd listens on numbers, not on localhost:8000";
  };
  hiddenGpu = {
    config = sconce {
      settings.models.m = {
        backend = "candle";
        candle.device = "cuda:1";
      };
    };
    message = "services.sconce.settings: candle.device is a GPU, which the unit hides; set services.sconce.gpu = true";
  };
  unreachable = {
    config = sconce { socketActivation.privateNetwork = true; };
    message = "without socketActivation.enable nobody could reach the daemon";
  };
  badName = {
    config.services.sconce.instances."a b" = { };
    message = "an instance's name is made of letters, digits, - and _";
  };

  unknownOption = {
    config = sconce { setings = { }; };
    mistake = "services.sconce.setings' does not exist";
  };
  wrongType = {
    config = sconce { settings.max_tokens = "many"; };
    mistake = "services.sconce.settings.max_tokens' is not of type";
  };
  outOfBounds = {
    config = sconce { settings.echo.dimensions = 5000; };
    mistake = "between 1 and 4096";
  };
  noBackend = {
    config = sconce { settings.models.m.backend = "magic"; };
    mistake = "services.sconce.settings.models.m.backend' is not of type";
  };

  unknownKey = {
    config = sconce { settings.server.drain_timout = "1min"; };
    refused = "drain_timeout";
  };
  withoutCuda = {
    config = sconce {
      gpu = true;
      settings.candle.device = "cuda";
    };
    refused = "candle.device: this build lacks it: build with the cargo feature `cuda`";
  };
  tooWarm = {
    config = sconce { settings.temperature = 3.0; };
    refused = "temperature";
  };
  badAddress = {
    config = sconce { settings.server.listen = [ "8000" ]; };
    refused = "server.listen";
  };
}
// lib.optionalAttrs (builtins.elem "proxy" settings.backends) {
  proxied = {
    config = sconce {
      socketActivation.enable = true;
      settings.models.far = {
        backend = "proxy";
        proxy.base_url = "http://192.0.2.1:8000/v1";
      };
    };
    expect = machine: {
      "a network" = !(has machine.units."sconce.service" "PrivateNetwork=yes");
    };
  };

  writtenUpstreamKey = {
    config = sconce { settings.models.far.proxy.upstreams.gpu1.api_key = "sk-1"; };
    message = "services.sconce.settings: models.far.proxy.upstreams.gpu1.api_key would be in the Nix store";
  };

  example = {
    config =
      let
        section = builtins.elemAt (lib.splitString "## A full example" (builtins.readFile ../../docs/nixos.md)) 1;
        # What is between the first ```nix and the next ```.
        shown = lib.removePrefix "nix\n" (builtins.elemAt (lib.splitString "```" section) 1);
        # A file, because an evaluation that may not write to the store can import nothing else.
        file = ../../docs/nixos-example.nix;
      in
      assert lib.assertMsg (
        shown == builtins.readFile file
      ) "docs/nixos.md does not show what docs/nixos-example.nix has";
      {
        imports = [ (import file) ];
        options.age.secrets = lib.mkOption {
          type = lib.types.attrsOf (
            lib.types.submodule (
              { name, ... }:
              {
                options.file = lib.mkOption { type = lib.types.anything; };
                options.path = lib.mkOption {
                  type = lib.types.str;
                  default = "/run/agenix/${name}";
                };
              }
            )
          );
          default = { };
        };
      };
    expect =
      machine:
      let
        text = machine.units."sconce.service";
      in
      {
        "keys" = line text "LoadCredential=api-keys.1:/run/agenix/sconce-keys";
        "upstreams' keys" = line text "LoadCredential=upstream-api-key.gpu2:/run/agenix/gpu2";
        "memory" = line text "MemoryMax=16G";
        "a port" = machine.firewall == [ 8000 ];
      };
  };
}
