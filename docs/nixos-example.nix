{ config, ... }:
let
  secret = name: config.age.secrets.${name}.path;
in
{
  age.secrets = {
    sconce-keys.file = ./secrets/sconce-keys.age;
    gpu1.file = ./secrets/gpu1.age;
    gpu2.file = ./secrets/gpu2.age;
  };

  services.sconce = {
    enable = true;
    openFirewall = true;
    apiKeyFiles = [ (secret "sconce-keys") ];
    # Each for the upstream of its name.
    upstreamApiKeyFiles = {
      gpu1 = secret "gpu1";
      gpu2 = secret "gpu2";
    };
    models.small = "/srv/models/small.gguf";
    settings = {
      server = {
        listen = [
          "0.0.0.0:8000"
          "unix:/run/sconce/sconce.sock"
        ];
        drain_timeout = "1min";
      };
      limits.max_requests_per_key = 16;
      models.large = {
        backend = "proxy";
        proxy.upstreams = {
          gpu1.base_url = "http://gpu1.lan:8000/v1";
          gpu2 = {
            base_url = "http://gpu2.lan:8000/v1";
            weight = 2;
          };
        };
      };
      models.small.max_tokens = 1024;
    };
  };

  # What concerns the unit: a local model that would not fit into this is refused when it loads.
  systemd.services.sconce.serviceConfig.MemoryMax = "16G";
}
