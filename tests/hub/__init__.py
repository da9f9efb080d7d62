"A stand-in for the Hugging Face hub, filled with every repository that the library names"
