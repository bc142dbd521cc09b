"""What Python's huggingface_hub makes of the cache that HF_HOME names, and of the hub at HF_ENDPOINT.

usage: client.py snapshot REPO | file REPO FILE REVISION | cached REPO FILE | scan
"""

import sys

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache


def main(action, *arguments):
    match action, arguments:
        case "snapshot", (repo,):
            print(snapshot_download(repo))
        case "file", (repo, file, revision):
            print(hf_hub_download(repo, file, revision=revision))
        case "cached", (repo, file):
            found = try_to_load_from_cache(repo, file)
            print("known not to exist" if found is _CACHED_NO_EXIST else found)
        case "scan", ():
            found = scan_cache_dir()
            for repo in found.repos:
                refs = ",".join(sorted(repo.refs))
                print(repo.repo_id, repo.repo_type, len(repo.revisions), repo.nb_files, refs, len(found.warnings))


main(*sys.argv[1:])
