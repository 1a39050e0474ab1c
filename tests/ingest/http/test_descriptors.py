import subprocess
import sys


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes() -> None:
    """The limit is raised for the connections, up to the hard limit; some descriptors stay reserved."""
    program = """
import resource, sys
from ingest.http.descriptors import raise_fd_limit
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(raise_fd_limit(1000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""

    def room(soft: int, hard: int) -> list[int]:
        command = [sys.executable, "-c", program, str(soft), str(hard)]
        result = subprocess.run(command, check=True, capture_output=True, timeout=240)
        return [int(word) for word in result.stdout.split()]

    assert room(2000, 2000) == [1000, 2000]
    assert room(256, 2000) == [1000, 1128]
    assert room(256, 600) == [472, 600]
    assert room(100, 100) == [1, 100]
