from tests.support.digits_releases import teacher_folder
from tests.support.fleet import first_release

__all__ = ["first_release", "teacher_folder"]
